//! Real grammars in the engine: guessing at what they force changes the number of steps and nothing else.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use local_engine::backend::sim::{Sim, SimBackend};
use local_engine::engine::{Core, EngineConfig, EngineParts, Generation};
use local_engine::grammar::{GrammarFactory, GrammarSpec};
use local_engine::request::{Event, FinishReason, GenerateRequest};
use local_engine::sampling::SamplingParams;
use local_engine::speculate::{SpeculationConfig, SpeculationKind};
use local_engine::tokenizer::Tokenizer;
use serde_json::{Value, json};

struct Model {
    tokenizer: Arc<Tokenizer>,
    factory: GrammarFactory,
    eos: u32,
}

fn model() -> Model {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers/qwen");
    let tokenizer = Arc::new(Tokenizer::load(&dir).unwrap());
    let eos = tokenizer.token("<|im_end|>").unwrap();
    Model { factory: GrammarFactory::new(&tokenizer, &[eos]).unwrap(), tokenizer, eos }
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "category": { "enum": ["billing", "delivery", "something else"] },
            "is_urgent": { "type": "boolean" },
            "n_items": { "type": "integer", "minimum": 0, "maximum": 999 },
            "order": { "type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$" },
        },
        "required": ["category", "is_urgent", "n_items", "order"],
        "additionalProperties": false,
    })
}

/// Texts for a grammar under different seeds, together, and the steps that they took.
fn answers(model: &Model, spec: &GrammarSpec, speculation: SpeculationConfig) -> (Vec<String>, u64) {
    // As in real checkpoints, the model's rows are longer than the tokenizer's vocabulary.
    let n_vocab = model.tokenizer.vocabulary().len() + 9;
    let backend = || Box::new(SimBackend::new(Sim { n_vocab, habit: 0.3, ..Sim::default() }));
    let parts = EngineParts {
        backend: backend(),
        vocabulary: model.tokenizer.vocabulary(),
        stop_ids: vec![model.eos],
        draft: Some(backend()),
    };
    let config = EngineConfig { n_blocks: Some(64), speculation, ..EngineConfig::default() };
    let (mut core, intake) = Core::build(parts, &config, Box::new(Instant::now)).unwrap();
    let generations: Vec<Generation> = (0..8)
        .map(|seed| {
            let temperature = if seed % 2 == 0 { 0.0 } else { 0.9 };
            let prompt: Vec<u32> = (0..20 + seed as u32).collect();
            let request = GenerateRequest {
                sampling: SamplingParams { temperature, seed, ..SamplingParams::default() },
                constraint: Some(model.factory.compile(spec).unwrap()),
                ..GenerateRequest::new(prompt, 300)
            };
            let (sequence, generation) = intake.sequence(request, Instant::now()).unwrap();
            core.enqueue(sequence);
            generation
        })
        .collect();
    while !core.is_idle() {
        core.step();
    }
    (generations.into_iter().map(text).collect(), core.meters().stats().n_steps)
}

fn text(mut generation: Generation) -> String {
    let mut text = String::new();
    while let Some(event) = generation.next_blocking() {
        match event {
            Event::Delta(delta) => text.push_str(&delta.text),
            Event::Finished(finish) => assert_eq!(finish.reason, FinishReason::Stop, "{text}"),
        }
    }
    text
}

fn speculation(kind: SpeculationKind, forced: bool) -> SpeculationConfig {
    SpeculationConfig { kind, forced, ..SpeculationConfig::default() }
}

#[test]
fn an_answer_in_a_form_is_the_same_however_it_is_guessed_at() {
    let model = model();
    let lark = r#"start: "dear " NAME ", thank you for your " ("call" | "letter")
NAME: /[A-Z][a-z]{2,8}/"#;
    let specs = [
        GrammarSpec::JsonSchema(schema()),
        GrammarSpec::Regex("(yes|no), because of (it|them)!".into()),
        GrammarSpec::Lark(lark.into()),
    ];
    for spec in specs {
        let (plain, n_steps) = answers(&model, &spec, speculation(SpeculationKind::Off, false));
        let (forced, n_forced_steps) = answers(&model, &spec, speculation(SpeculationKind::Off, true));

        assert_eq!(plain, forced);
        assert!(n_forced_steps < n_steps, "{n_forced_steps} steps instead of {n_steps} for {spec:?}");
        for kind in [SpeculationKind::Lookup, SpeculationKind::Draft] {
            for is_forced in [false, true] {
                assert_eq!(answers(&model, &spec, speculation(kind, is_forced)).0, plain, "{kind:?}");
            }
        }
    }
}

#[test]
fn an_answer_in_a_form_has_the_form() {
    let (texts, _) =
        answers(&model(), &GrammarSpec::JsonSchema(schema()), speculation(SpeculationKind::Draft, true));

    for text in texts {
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(value.as_object().map(|object| object.len()), Some(4), "{text}");
    }
}
