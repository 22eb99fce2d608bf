//! What an answer has to be: the model, the sampler and the rules, one token after the other.

use std::sync::Arc;

use local_engine::backend::sim::Sim;
use local_engine::grammar::Constraint;
use local_engine::request::{FinishReason, TokenOut};
use local_engine::sampling::Sampler;
use local_engine::tokenizer::{TextOut, Vocabulary};

use crate::trace::{Arrival, END, vocabulary};

/// An answer as it should be.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) tokens: Vec<TokenOut>,
    pub(crate) text: String,
    pub(crate) reason: FinishReason,
}

/// The answer to an arrival, in a context of so many positions.
pub(crate) fn expected(sim: &Sim, arrival: &Arrival, max_len: usize) -> Expected {
    let mut text = arrival.prompt();
    let mut tokens = Vec::new();
    let mut sampler = Sampler::new(arrival.sampling.clone(), &text);
    let mut pattern = arrival.pattern.clone();
    let mut out = TextOut::new(Arc::new(vocabulary()), arrival.stop_strings.clone());
    let mut shown = String::new();
    let ends_by_model = !arrival.ignore_eos || pattern.is_some();
    let reason = loop {
        let mut mask = None;
        if let Some(pattern) = &mut pattern {
            if pattern.is_done() {
                break FinishReason::Stop;
            }
            match pattern.mask() {
                Ok(allowed) => mask = Some(allowed),
                Err(error) => break FinishReason::Grammar(error.to_string()),
            }
        }
        let mut row = sim.row_after(&text);
        let choice = sampler.choose(&mut row, text.len(), mask.as_ref(), arrival.logprobs);
        let token = choice.token;
        if (token == END && ends_by_model) || arrival.stop_tokens.contains(&token) {
            break FinishReason::Stop;
        }
        text.push(token);
        tokens.push(TokenOut { id: token, logprob: choice.logprob, top: choice.top });
        sampler.push(token);
        let piece = out.push(token);
        shown.push_str(&piece.text);
        if piece.stopped {
            return Expected { tokens, text: shown, reason: FinishReason::Stop };
        }
        if let Some(pattern) = &mut pattern {
            pattern.push(token).expect("the mask allowed it");
            if pattern.is_done() {
                break FinishReason::Stop;
            }
        }
        if tokens.len() == arrival.max_tokens || text.len() == max_len {
            break FinishReason::Length;
        }
    };
    shown.push_str(&out.finish());
    Expected { tokens, text: shown, reason }
}

/// The text of an answer that was ended from outside: what was held back is part of it.
pub(crate) fn text_of(tokens: &[TokenOut], stop_strings: &[String]) -> String {
    let mut out = TextOut::new(Arc::new(vocabulary()), stop_strings.to_vec());
    let shown: String = tokens.iter().map(|token| out.push(token.id).text).collect();
    shown + &out.finish()
}

/// The bytes of the test's tokens: a letter each.
pub(crate) fn letters(n_vocab: usize) -> Vocabulary {
    let letter = |idx: usize| Box::from([b'a' + (idx % 26) as u8].as_slice());
    Vocabulary::new((0..n_vocab).map(letter).collect(), vec![END])
}
