//! Small checkpoints of every kind, opened from their files, answer as Hugging Face transformers does.

#[path = "goldens/closeness.rs"]
mod closeness;
#[path = "goldens/fixture.rs"]
mod fixture;

use closeness::{assert_near, cosine};
use fixture::{Fixture, NAMES, answers};
use local_engine::backend::cpu::{Cpu, CpuConfig};
use local_engine::backend::reference::Reference;
use local_engine::weights::checkpoint;

/// The greatest distance of two rows' logits.
fn distance(row: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(row.len(), expected.len());
    row.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max)
}

#[test]
fn the_reference_answers_as_transformers_does() {
    for name in NAMES {
        let fixture = Fixture::read(name);
        let mut reference = Reference::new(checkpoint::open(&fixture.dir).unwrap()).unwrap();

        let answers = answers(&mut reference, &fixture, 16);

        for ((row, expected), position) in answers.rows.iter().zip(&fixture.rows).zip(&fixture.positions) {
            let distance = distance(row, expected);
            assert!(distance < 2e-4, "{name}: logits at {position} are off by {distance}");
        }
        assert_eq!(answers.greedy, fixture.greedy, "{name}");
        assert_eq!((answers.rows.len(), answers.greedy.len()), (8, 12), "{name}");
    }
}

/// Eight-bit activations cost a row now and then more than all rows together.
#[test]
fn the_processor_answers_nearly_as_transformers_does() {
    let mut n_clear = 0;
    for name in NAMES {
        let fixture = Fixture::read(name);
        let mut cpu = Cpu::new(&checkpoint::open(&fixture.dir).unwrap(), &CpuConfig::default()).unwrap();

        let answers = answers(&mut cpu, &fixture, 16);

        for ((row, expected), position) in answers.rows.iter().zip(&fixture.rows).zip(&fixture.positions) {
            n_clear += usize::from(assert_near(&format!("{name} at {position}"), row, expected, 0.997));
        }
        let together = cosine(&answers.rows.concat(), &fixture.rows.concat());
        assert!(together > 0.999, "{name}: {together}");
    }
    assert!(n_clear > 12 * 8 / 4, "{n_clear} rows of {} were clear", 12 * 8);
}
