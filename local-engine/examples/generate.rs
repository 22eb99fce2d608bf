//! Asks a model one question, on the terminal.
//!
//! ```sh
//! cargo run --release -p local-engine --example generate -- router-models/support-assistant "where is my order?"
//! ```

#![expect(clippy::print_stdout, reason = "the answer belongs on the terminal")]

use std::io::Write;
use std::process::ExitCode;

use local_engine::backend::cpu::CpuConfig;
use local_engine::chat::ChatRequest;
use local_engine::engine::EngineConfig;
use local_engine::local_model::{LocalModel, LocalModelConfig};
use local_engine::request::{Event, Finish, GenerateRequest};

const USAGE: &str = "usage: generate MODEL_DIR QUESTION";

fn main() -> ExitCode {
    let [model_dir, question] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        println!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match answer(model_dir, question) {
        Ok(finish) => {
            println!("\n\n{:?}, {:?}", finish.reason, finish.usage);
            ExitCode::SUCCESS
        }
        Err(problem) => {
            println!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn answer(model_dir: &str, question: &str) -> Result<Finish, Box<dyn std::error::Error>> {
    let config = LocalModelConfig {
        model_dir: model_dir.into(),
        draft_dir: None,
        context: None,
        cpu: CpuConfig::default(),
        engine: EngineConfig::default(),
    };
    let model = LocalModel::load(&config)?;
    let chat = model.chat().ok_or("the model has no chat template")?;
    let messages = vec![serde_json::json!({ "role": "user", "content": question })];
    let prompt = chat.prompt(&ChatRequest { messages, ..ChatRequest::default() })?;
    let max_tokens = model.context().saturating_sub(prompt.tokens.len());
    let sampling = model.defaults().clone();
    let request = GenerateRequest { sampling, ..GenerateRequest::new(prompt.tokens, max_tokens) };
    let mut generation = model.engine().submit(request)?;
    loop {
        match generation.next_blocking() {
            Some(Event::Delta(delta)) => {
                print!("{}", delta.text);
                std::io::stdout().flush()?;
            }
            Some(Event::Finished(finish)) => return Ok(finish),
            None => return Err("the engine ended without a word".into()),
        }
    }
}
