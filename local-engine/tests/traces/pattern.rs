//! A grammar for tests: which tokens may come at each place of the answer.

use local_engine::grammar::{Constraint, GrammarError, TokenMask};
use local_engine::request::TokenId;

/// The places repeat from the start; one with a single token forces it.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) places: Vec<Vec<TokenId>>,
    /// The model's end is allowed from here on.
    pub(crate) end: (usize, TokenId),
    /// The text is complete after so many.
    pub(crate) done_after: usize,
    /// It breaks at this place.
    pub(crate) broken_at: Option<usize>,
    pub(crate) n_pushed: usize,
}

impl Pattern {
    fn place(&self, idx: usize) -> &[TokenId] {
        &self.places[idx % self.places.len()]
    }

    fn may_end(&self, idx: usize) -> bool {
        idx >= self.end.0
    }
}

impl Constraint for Pattern {
    fn mask(&mut self) -> Result<TokenMask, GrammarError> {
        if self.broken_at == Some(self.n_pushed) {
            return Err(GrammarError::Failed("the pattern is broken here".into()));
        }
        let mut words = vec![0; 2];
        let end = self.may_end(self.n_pushed).then_some(self.end.1);
        for token in self.place(self.n_pushed).iter().chain(&end) {
            words[*token as usize / 32] |= 1 << (token % 32);
        }
        Ok(TokenMask::from_words(words))
    }

    fn push(&mut self, token: TokenId) -> Result<(), GrammarError> {
        if !self.place(self.n_pushed).contains(&token) {
            return Err(GrammarError::Failed(format!("token {token} was not allowed")));
        }
        self.n_pushed += 1;
        Ok(())
    }

    fn forced(&mut self) -> Vec<TokenId> {
        let is_forced = |idx: &usize| self.place(*idx).len() == 1 && !self.may_end(*idx);
        let forced = (self.n_pushed..self.done_after).take_while(is_forced);
        forced.map(|idx| self.place(idx)[0]).collect()
    }

    fn is_done(&self) -> bool {
        self.n_pushed >= self.done_after
    }
}
