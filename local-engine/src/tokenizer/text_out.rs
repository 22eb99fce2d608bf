//! An answer's tokens become text: whole characters, up to a stop string.
//!
//! Knows no end tokens and no lengths: the engine ends an answer, and this only its text.
//!
//! Invariants: the pieces of an answer, joined, are what a lossy decoding of all its bytes gives, cut where
//! the stop string begins that is complete first (of several complete at once, the one that began first);
//! so they do not depend on where tokens end.

use std::sync::Arc;

use super::Vocabulary;
use crate::request::TokenId;

/// What a token brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextPiece {
    /// Text that is certain to belong to the answer.
    pub text: String,
    /// A stop string is complete; it and what follows are cut off.
    pub stopped: bool,
}

/// The text of one answer as it grows.
#[derive(Debug, Clone)]
pub struct TextOut {
    vocabulary: Arc<Vocabulary>,
    stops: Vec<String>,
    /// The beginning of a character.
    bytes: Vec<u8>,
    /// What might be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl TextOut {
    /// A stop string of no characters stops nothing.
    pub fn new(vocabulary: Arc<Vocabulary>, stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { vocabulary, stops, bytes: Vec::new(), held: String::new(), stopped: false }
    }

    /// A special token brings no text; nothing does after a stop string.
    pub fn push(&mut self, token: TokenId) -> TextPiece {
        if self.stopped || self.vocabulary.is_special(token) {
            return TextPiece { text: String::new(), stopped: self.stopped };
        }
        self.bytes.extend_from_slice(self.vocabulary.bytes(token).unwrap_or_default());
        take_characters(&mut self.bytes, &mut self.held);
        self.release()
    }

    /// The answer is over: what was held back, with what is no character replaced.
    pub fn finish(&mut self) -> String {
        if !self.bytes.is_empty() {
            self.held.push(char::REPLACEMENT_CHARACTER);
            self.bytes.clear();
        }
        let piece = self.release();
        piece.text + &std::mem::take(&mut self.held)
    }

    fn release(&mut self) -> TextPiece {
        if let Some(start) = self.first_stop() {
            self.stopped = true;
            self.held.truncate(start);
            self.bytes.clear();
            return TextPiece { text: std::mem::take(&mut self.held), stopped: true };
        }
        let kept = self.held.split_off(self.first_hope());
        TextPiece { text: std::mem::replace(&mut self.held, kept), stopped: false }
    }

    /// Where the stop string begins that is complete first.
    fn first_stop(&self) -> Option<usize> {
        let ends = |stop: &String| self.held.find(stop.as_str()).map(|start| (start + stop.len(), start));
        self.stops.iter().filter_map(ends).min().map(|(_, start)| start)
    }

    /// Where what may yet become a stop string begins; the end if nothing may.
    fn first_hope(&self) -> usize {
        let longest = self.stops.iter().map(|stop| stop.len() - 1).max().unwrap_or(0);
        let earliest = self.held.len().saturating_sub(longest);
        let may_become = |start: &usize| {
            self.held.is_char_boundary(*start)
                && self.stops.iter().any(|stop| stop.starts_with(&self.held[*start..]))
        };
        (earliest..self.held.len()).find(may_become).unwrap_or(self.held.len())
    }
}

/// Moves whole characters, and replacements for what cannot become one, from bytes to text.
fn take_characters(bytes: &mut Vec<u8>, text: &mut String) {
    let mut n_taken = 0;
    while let Err(error) = std::str::from_utf8(&bytes[n_taken..]) {
        let n_invalid = error.error_len();
        let (valid, _) = bytes[n_taken..].split_at(error.valid_up_to());
        text.push_str(std::str::from_utf8(valid).expect("the error says up to where it is valid"));
        n_taken += error.valid_up_to();
        let Some(n_invalid) = n_invalid else {
            bytes.drain(..n_taken);
            return;
        };
        text.push(char::REPLACEMENT_CHARACTER);
        n_taken += n_invalid;
    }
    text.push_str(std::str::from_utf8(&bytes[n_taken..]).expect("the loop ends when it is valid"));
    bytes.clear();
}

#[cfg(test)]
mod tests;
