//! What guessing is worth on answers that repeat their question: acceptance, and the speed-up.
//!
//! Runs the same questions with each kind of guess, one at a time and greedily; the answers must be equal. The
//! best of five rounds counts; all but the first find their prompts in the prefix cache, so that the figures are
//! of decoding.

use std::path::Path;
use std::time::Instant;

use local_engine::backend::cpu::CpuConfig;
use local_engine::chat::ChatRequest;
use local_engine::engine::EngineConfig;
use local_engine::local_model::{LocalModel, LocalModelConfig};
use local_engine::request::{Event, GenerateRequest, TokenId};
use local_engine::speculate::{SpeculationConfig, SpeculationKind};
use serde_json::{Value, json};

use crate::arguments::Arguments;

/// Used where no file is named.
const PROMPTS: [&str; 8] = [
    "where is my order 48213?",
    "please cancel order number 99120 for me",
    "I want to return the blue lamp that I bought last week",
    "how do I get an invoice for order 7731-22?",
    "my package arrived damaged, what now?",
    "can I change the delivery address of order 55012 to Lindenstrasse 4?",
    "how long does express delivery take?",
    "I forgot my password",
];
const ROUNDS: usize = 5;
const MAX_TOKENS: usize = 160;

pub(crate) fn measure(model_dir: &Path, arguments: &Arguments) -> Value {
    let prompts: Vec<String> = match &arguments.prompts {
        Some(file) => std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect(),
        None => PROMPTS.map(str::to_owned).into(),
    };
    let kinds = [
        ("off", SpeculationKind::Off),
        ("lookup", SpeculationKind::Lookup),
        ("draft", SpeculationKind::Draft),
    ];
    let mut report = json!({});
    let mut plain: Option<(f64, Vec<Vec<TokenId>>)> = None;
    for (name, kind) in kinds {
        if kind == SpeculationKind::Draft && arguments.draft_dir.is_none() {
            continue;
        }
        let model = load(model_dir, kind, arguments);
        let (mut per_second, mut answers) = (0.0, Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            answers = prompts.iter().map(|prompt| answer(&model, prompt)).collect();
            let n_tokens: usize = answers.iter().map(Vec::len).sum();
            per_second = f64::max(per_second, n_tokens as f64 / began.elapsed().as_secs_f64());
        }
        let stats = model.engine().stats();
        let accepted = stats.n_accepted_tokens as f64 / stats.n_drafted_tokens.max(1) as f64;
        let (base, expected) = plain.get_or_insert_with(|| (per_second, answers.clone()));
        assert_eq!(answers, *expected, "speculation must not change an answer");
        println!(
            "{name:<8}{per_second:.0} tok/s, {:.2} times as fast; {:.0} % of {} guesses held",
            per_second / *base,
            accepted * 100.0,
            stats.n_drafted_tokens
        );
        report[name] = json!({ "tokens_per_second": per_second, "speed_up": per_second / *base, "acceptance": accepted });
        model.engine().close();
    }
    report
}

fn load(model_dir: &Path, kind: SpeculationKind, arguments: &Arguments) -> LocalModel {
    let speculation = SpeculationConfig { kind, ..SpeculationConfig::default() };
    let is_draft = kind == SpeculationKind::Draft;
    let config = LocalModelConfig {
        model_dir: model_dir.to_owned(),
        draft_dir: arguments.draft_dir.clone().filter(|_| is_draft),
        context: None,
        cpu: CpuConfig { threads: Some(arguments.threads), ..CpuConfig::default() },
        engine: EngineConfig { speculation, ..EngineConfig::default() },
    };
    LocalModel::load(&config).unwrap()
}

fn answer(model: &LocalModel, prompt: &str) -> Vec<TokenId> {
    let messages = vec![json!({ "role": "user", "content": prompt })];
    let request = ChatRequest { messages, ..ChatRequest::default() };
    let prompt = model.chat().unwrap().prompt(&request).unwrap();
    let request = GenerateRequest::new(prompt.tokens, MAX_TOKENS);
    let mut generation = model.engine().submit(request).unwrap();
    let mut tokens = Vec::new();
    while let Some(event) = generation.next_blocking() {
        if let Event::Delta(delta) = event {
            tokens.extend(delta.tokens.iter().map(|token| token.id));
        }
    }
    tokens
}
