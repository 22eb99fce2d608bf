//! The scan against a plain comparison of all floats, to the last bit.

use proptest::prelude::*;

use super::*;
use crate::chat::Fingerprint;

const SCOPE: Fingerprint = Fingerprint::new([1; 32]);

/// All that are near enough, by comparing every one of them.
fn plainly(partition: &Partition, wanted: &Wanted<'_>) -> Vec<(f32, Handle)> {
    let living = partition.rows.iter().enumerate().filter(|(_, row)| row.expires_at_ms > wanted.now_ms);
    let mut near: Vec<(f32, u64, Handle)> = living
        .map(|(idx, row)| (dot(partition.vector(idx), wanted.vector), row.age, row.entry))
        .filter(|(similarity, ..)| *similarity >= wanted.min_similarity)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    near.truncate(wanted.k);
    near.into_iter().map(|(similarity, _, entry)| (similarity, entry)).collect()
}

fn found(partition: &Partition, wanted: &Wanted<'_>) -> Vec<(f32, Handle)> {
    partition.nearest(wanted).iter().map(|near| (near.similarity, near.entry)).collect()
}

fn unit(values: &[f32]) -> Vec<f32> {
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-3);
    values.iter().map(|value| value / length).collect()
}

/// Few directions and steps, so that many are equally near or nearly so.
fn vectors() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let steps = (0usize..4, 0u8..5, 0usize..70, 0u8..4).prop_map(|(of, size, at, more)| {
        let mut values: Vec<f32> = (0..70).map(|idx| ((idx * (of + 3)) % 11) as f32 - 5.0).collect();
        values[0] += f32::from(size);
        values[at] += f32::from(more) * 1e-3;
        unit(&values)
    });
    prop::collection::vec(steps, 1..120)
}

fn filled(vectors: &[Vec<f32>], lives_ms: &[i64]) -> Partition {
    let mut partition = Partition::of_dims(70);
    for (age, (vector, lives_ms)) in (0..).zip(vectors.iter().zip(lives_ms.iter().cycle())) {
        let entry = Handle::new(usize::try_from(age).unwrap());
        partition.push(Row { entry, age, expires_at_ms: *lives_ms }, vector);
    }
    partition
}

proptest! {
    #[test]
    fn the_nearest_are_those_of_a_plain_comparison(
        vectors in vectors(),
        lives_ms in prop::collection::vec(0i64..10, 1..20),
        removed in prop::collection::vec(0usize..120, 0..30),
        (k, min_similarity, now_ms) in (0usize..20, -1.0f32..1.0, 0i64..10),
    ) {
        let mut partition = filled(&vectors, &lives_ms);
        for idx in removed {
            if idx < partition.rows.len() {
                partition.swap_remove(idx);
            }
        }
        for asked in &vectors {
            let wanted = Wanted { scope: &SCOPE, vector: asked, k, min_similarity, now_ms };
            prop_assert_eq!(found(&partition, &wanted), plainly(&partition, &wanted));
        }
    }
}

/// Numbers that look random, from 0 to 1.
fn noise(seed: &mut u64) -> f32 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 40) as f32 / (1_u64 << 24) as f32
}

#[test]
fn among_thousands_the_same_are_found_and_few_are_compared() {
    let mut seed = 7;
    let mut random = || unit(&(0..384).map(|_| noise(&mut seed) - 0.5).collect::<Vec<f32>>());
    let mut partition = Partition::of_dims(384);
    for n in 0..5_000 {
        let row = Row { entry: Handle::new(n), age: n as u64, expires_at_ms: 1 };
        partition.push(row, &random());
    }

    for _ in 0..20 {
        let asked = random();
        let wanted = Wanted { scope: &SCOPE, vector: &asked, k: 16, min_similarity: -1.0, now_ms: 0 };

        assert_eq!(found(&partition, &wanted), plainly(&partition, &wanted));
        let n_candidates = partition.candidates(&wanted).len();
        assert!(n_candidates < 500, "{n_candidates} of 5000 are compared in full");
    }
}

#[test]
fn equally_near_the_newer_comes_first() {
    let vector = unit(&[1.0; 70]);
    let partition = filled(&vec![vector.clone(); 600], &[1]);
    let wanted = Wanted { scope: &SCOPE, vector: &vector, k: 3, min_similarity: 0.0, now_ms: 0 };

    let entries: Vec<Handle> = found(&partition, &wanted).into_iter().map(|(_, entry)| entry).collect();

    assert_eq!(entries, [599, 598, 597].map(Handle::new));
}

#[test]
fn what_has_no_length_is_never_near_and_hides_nobody() {
    let sound = unit(&[1.0; 70]);
    let mut vectors = vec![sound.clone(); 2];
    for odd in [f32::NAN, f32::INFINITY, f32::MAX] {
        let mut vector = sound.clone();
        (vector[3], vector[4]) = (odd, odd);
        vectors.push(vector);
    }
    let partition = filled(&vectors, &[1]);

    for k in 1..4 {
        let wanted = Wanted { scope: &SCOPE, vector: &sound, k, min_similarity: -1.0, now_ms: 0 };
        assert_eq!(found(&partition, &wanted).len(), k.min(2));
    }
}
