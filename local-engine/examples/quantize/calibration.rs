//! Calibration text becomes sequences of tokens.
//!
//! Invariants: each has at least two tokens and at most the model's context; the same file gives the same
//! ones.

use std::path::Path;

use local_engine::model::Hparams;
use local_engine::request::TokenId;
use minijinja::{Environment, context};
use serde_json::Value;
use tokenizers::Tokenizer;

use super::Error;
use super::arguments::Arguments;

/// None when no file is named.
pub(crate) fn read(arguments: &Arguments, hparams: &Hparams) -> Result<Option<Vec<Vec<TokenId>>>, Error> {
    let Some(path) = &arguments.calibration else { return Ok(None) };
    let of_file = |error: Error| -> Error { format!("{}: {error}", path.display()).into() };
    let reader = Reader::new(&arguments.float_dir, arguments.n_length.min(hparams.context), hparams.bos_id)?;
    let text = std::fs::read_to_string(path).map_err(|error| of_file(error.into()))?;
    let sequences = match path.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => reader.lines(&text),
        Some("txt") => reader.running_text(&text),
        Some(_) | None => Err("the name has to end in .txt or .jsonl".into()),
    };
    Ok(Some(evenly(sequences.map_err(of_file)?, arguments.n_samples)))
}

/// So many of them, at even distances.
fn evenly(sequences: Vec<Vec<TokenId>>, n_wanted: usize) -> Vec<Vec<TokenId>> {
    let n_taken = n_wanted.min(sequences.len());
    (0..n_taken).map(|idx| sequences[idx * sequences.len() / n_taken].clone()).collect()
}

struct Reader<'a> {
    dir: &'a Path,
    tokenizer: Tokenizer,
    n_length: usize,
    /// What the tokenizer puts before a text.
    begin: Option<TokenId>,
}

impl<'a> Reader<'a> {
    fn new(dir: &'a Path, n_length: usize, bos_id: Option<TokenId>) -> Result<Self, Error> {
        let path = dir.join("tokenizer.json");
        let tokenizer =
            Tokenizer::from_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let of_nothing = tokenizer.encode("", true)?;
        let begin = of_nothing.get_ids().first().copied().filter(|id| Some(*id) == bos_id);
        Ok(Self { dir, tokenizer, n_length, begin })
    }

    /// One long text.
    fn running_text(&self, text: &str) -> Result<Vec<Vec<TokenId>>, Error> {
        let encoding = self.tokenizer.encode(text, false)?;
        let n_begin = usize::from(self.begin.is_some());
        let pieces = encoding.get_ids().chunks((self.n_length - n_begin).max(1));
        let sequence = |piece: &[TokenId]| self.begin.iter().chain(piece).copied().collect();
        Ok(pieces.map(sequence).filter(|of: &Vec<TokenId>| of.len() >= 2).collect())
    }

    /// A text a line; of one that is too long, the beginning.
    fn lines(&self, text: &str) -> Result<Vec<Vec<TokenId>>, Error> {
        let mut sequences = Vec::new();
        for (line_idx, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let mut tokens = self.line(line).map_err(|error| format!("line {}: {error}", line_idx + 1))?;
            tokens.truncate(self.n_length);
            if tokens.len() >= 2 {
                sequences.push(tokens);
            }
        }
        Ok(sequences)
    }

    fn line(&self, line: &str) -> Result<Vec<TokenId>, Error> {
        let value: Value = serde_json::from_str(line)?;
        let encoding = match (value.as_str().or(value["text"].as_str()), value["messages"].is_array()) {
            (Some(text), _) => self.tokenizer.encode(text, true)?,
            // A template writes the special tokens itself.
            (None, true) => self.tokenizer.encode(self.chat(&value["messages"])?, false)?,
            (None, false) => return Err("has neither `text` nor `messages`".into()),
        };
        Ok(encoding.get_ids().to_vec())
    }

    fn chat(&self, messages: &Value) -> Result<String, Error> {
        let config: Value = match std::fs::read(self.dir.join("tokenizer_config.json")) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(_) => Value::Null,
        };
        let of_file = std::fs::read_to_string(self.dir.join("chat_template.jinja")).ok();
        let template = of_file.as_deref().or(config["chat_template"].as_str());
        let template =
            template.ok_or("has `messages`, and the model has no chat template; give it as `text`")?;
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        let special = |name: &str| {
            let token = &config[name];
            token.as_str().or(token["content"].as_str()).unwrap_or("").to_owned()
        };
        let values = context! {
            messages => messages, add_generation_prompt => false,
            bos_token => special("bos_token"), eos_token => special("eos_token"),
        };
        Ok(environment.render_str(template, values)?)
    }
}
