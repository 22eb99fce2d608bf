//! A compiled grammar along one text.
//!
//! Invariants: an end token is allowed exactly when the text may end there; what is forced is what the masks
//! allow, token by token.

use llguidance::Matcher;
use llguidance::api::StopReason;

use super::{Constraint, GrammarError, TokenMask};
use crate::request::TokenId;

pub(super) struct Matching {
    matcher: Matcher,
    eos: Box<[TokenId]>,
}

impl Matching {
    pub(super) fn new(matcher: Matcher, eos: &[TokenId]) -> Self {
        Self { matcher, eos: eos.into() }
    }
}

impl std::fmt::Debug for Matching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matching").field("stop_reason", &self.matcher.stop_reason()).finish_non_exhaustive()
    }
}

impl Constraint for Matching {
    fn mask(&mut self) -> Result<TokenMask, GrammarError> {
        let mask = self.matcher.compute_mask_or_eos().map_err(failed)?;
        Ok(TokenMask::from_words(mask.as_slice().to_vec()))
    }

    fn push(&mut self, token: TokenId) -> Result<(), GrammarError> {
        if self.is_done() && self.eos.contains(&token) {
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(failed)
    }

    fn forced(&mut self) -> Vec<TokenId> {
        if self.matcher.is_stopped() { Vec::new() } else { self.matcher.compute_ff_tokens() }
    }

    fn is_done(&self) -> bool {
        matches!(
            self.matcher.stop_reason(),
            StopReason::NoExtension | StopReason::NoExtensionBias | StopReason::EndOfSentence
        )
    }
}

fn failed(error: impl std::fmt::Display) -> GrammarError {
    GrammarError::Failed(plain(&error.to_string()))
}

/// A message of llguidance without what is meant for its own developers.
pub(super) fn plain(message: &str) -> String {
    let message = message.split("<non-verbose/>").next().unwrap_or_default();
    let message = message.split("\n<backtrace>").next().unwrap_or_default();
    let message = message
        .replace("Enable 'coerce_one_of' option to approximate oneOf with anyOf", "write anyOf")
        .replace("NoExtensionBias", "no token can continue the text");
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
