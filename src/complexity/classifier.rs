//! The trained classifier: what it sees of a text, and the ONNX model that weighs it.
//!
//! Holds no weights and decides nothing. The reading of a text here and in
//! `router-models/training/features.py` is one definition in two languages, held together by `golden.json`.
//!
//! Invariants: at most [`TOKENS_MAX`] tokens, never none; exactly [`N_NUMBERS`] numbers; only ASCII
//! classes of characters, so that two languages' ideas of Unicode cannot differ.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ort::session::Session;
use ort::value::Tensor;
use tokenizers::Tokenizer;

use super::ComplexityError;
use crate::onnx::Runtime;

/// A longer text keeps its first and last halves.
const TOKENS_MAX: usize = 512;
/// Stands for a text without any token.
const UNKNOWN_ID: i64 = 100;
const N_NUMBERS: usize = 20;
const INPUTS: [&str; 2] = ["input_ids", "numbers"];

/// One model and its tokenizer; a thread has its own.
pub(super) struct Classifier {
    tokenizer: Tokenizer,
    session: Session,
}

impl Classifier {
    pub(super) fn open(runtime: &Runtime, model_dir: &Path) -> Result<Self, ComplexityError> {
        let tokenizer = tokenizer(model_dir.join("tokenizer.json"))?;
        let path = model_dir.join("model.onnx");
        let session = runtime.session(&path)?;
        let names: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        if names != INPUTS {
            let why = format!("its inputs are {names:?}, not {INPUTS:?}");
            return Err(ComplexityError::Unfit { path, why });
        }
        let mut classifier = Self { tokenizer, session };
        // The first run plans memory; a model that cannot score at all is found out here.
        classifier.score("ready").map_err(|why| ComplexityError::Unfit { path, why })?;
        Ok(classifier)
    }

    /// The score of a text that has been capped already.
    pub(super) fn score(&mut self, text: &str) -> Result<f32, String> {
        let ids = token_ids(&self.tokenizer, text)?;
        let numbers = numbers(text, &ids);
        let ids = Tensor::from_array(([ids.len()], ids)).map_err(|error| error.to_string())?;
        let numbers =
            Tensor::from_array(([N_NUMBERS], numbers.to_vec())).map_err(|error| error.to_string())?;
        let outputs = self
            .session
            .run(ort::inputs![INPUTS[0] => ids, INPUTS[1] => numbers])
            .map_err(|error| error.to_string())?;
        let (_, scores) = outputs[0].try_extract_tensor::<f32>().map_err(|error| error.to_string())?;
        match scores {
            [score] if score.is_finite() => Ok(score.clamp(0.0, 1.0)),
            other => Err(format!("the model gave {other:?} instead of one score")),
        }
    }
}

fn tokenizer(path: PathBuf) -> Result<Tokenizer, ComplexityError> {
    let read = Tokenizer::from_file(&path).and_then(|mut tokenizer| {
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        Ok(tokenizer)
    });
    read.map_err(|error| ComplexityError::Tokenizer { path, why: error.to_string() })
}

fn token_ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<i64>, String> {
    let encoding = tokenizer.encode_fast(text, false).map_err(|error| error.to_string())?;
    let ids: Vec<i64> = encoding.get_ids().iter().copied().map(i64::from).collect();
    Ok(match ids.len() {
        0 => vec![UNKNOWN_ID],
        n if n > TOKENS_MAX => [&ids[..TOKENS_MAX / 2], &ids[n - TOKENS_MAX / 2..]].concat(),
        _ => ids,
    })
}

/// Shares and logarithms of counts. Their order is that of `NAMES` in `features.py`.
fn numbers(text: &str, ids: &[i64]) -> [f32; N_NUMBERS] {
    let count = |wanted: fn(char) -> bool| text.chars().filter(|&c| wanted(c)).count();
    let n_chars = text.chars().count();
    let share = |n: usize| n as f64 / n_chars.max(1) as f64;
    let log = |n: usize| (n as f64).ln_1p();
    let n_digits = count(|c| c.is_ascii_digit());
    let n_distinct = ids.iter().collect::<HashSet<_>>().len();
    let per_token = |n: usize| n as f64 / ids.len() as f64;
    let fenced = if text.contains("```") { 1.0 } else { 0.0 };

    [
        log(n_chars),
        log(ids.len()),
        log(n_digits),
        share(n_digits),
        log(n_runs_of_digits(text)),
        log(count(|c| c == '?')),
        log(count(|c| c == '\n')),
        share(count(|c| c.is_ascii_uppercase())),
        share(count(|c| "+-*/=^<>".contains(c))),
        share(count(|c| "{}()[];_".contains(c))),
        log(count(|c| "$\\".contains(c))),
        log(count(|c| c == ',')),
        log(count(|c| c == '.')),
        share(count(|c| !c.is_ascii())),
        per_token(n_distinct),
        per_token(n_chars),
        log(count(|c| c == '%')),
        fenced,
        log(n_lines(text, is_item)),
        log(n_lines(text, is_option)),
    ]
    .map(|value| value as f32)
}

fn n_runs_of_digits(text: &str) -> usize {
    text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty()).count()
}

fn n_lines(text: &str, wanted: fn(&str) -> bool) -> usize {
    text.split('\n').filter(|line| wanted(line.trim_start_matches(' '))).count()
}

fn is_item(line: &str) -> bool {
    line.starts_with(|c: char| matches!(c, '-' | '*') || c.is_ascii_digit())
}

/// A line such as `A. one` or `b) two`.
fn is_option(line: &str) -> bool {
    matches!(line.as_bytes(), [letter, b'.' | b')', ..] if letter.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::complexity::capped;

    #[derive(Deserialize)]
    struct Golden {
        text: String,
        n_ids: usize,
        ids_sum: i64,
        numbers: Vec<f32>,
        score: f32,
    }

    fn golden() -> Vec<Golden> {
        serde_json::from_str(include_str!("../../router-models/complexity/golden.json")).unwrap()
    }

    fn model_dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("router-models/complexity")
    }

    #[test]
    fn a_text_is_read_as_in_training() {
        let tokenizer = tokenizer(model_dir().join("tokenizer.json")).unwrap();

        for case in golden() {
            let text = capped(&case.text);
            let ids = token_ids(&tokenizer, &text).unwrap();
            let numbers = numbers(&text, &ids);

            assert_eq!((ids.len(), ids.iter().sum::<i64>()), (case.n_ids, case.ids_sum), "{:?}", case.text);
            assert_eq!(numbers.len(), case.numbers.len());
            for (idx, (ours, theirs)) in numbers.iter().zip(&case.numbers).enumerate() {
                assert!((ours - theirs).abs() < 1e-4, "number {idx} of {:?}: {ours}, {theirs}", case.text);
            }
        }
    }

    #[test]
    fn a_text_scores_as_in_training() {
        let Some(runtime) = crate::onnx::testing::runtime() else { return };
        let mut classifier = Classifier::open(&runtime, &model_dir()).unwrap();

        for case in golden() {
            let score = classifier.score(&capped(&case.text)).unwrap();

            assert!((score - case.score).abs() < 1e-3, "{score} for {:?}, not {}", case.text, case.score);
        }
    }
}
