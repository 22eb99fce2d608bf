//! Guesses at the next tokens, so that one step of the model may confirm several.
//!
//! Never decides a token. The model computes the last known token and the guesses in one go, and the
//! ordinary sampler then chooses at each row in order, as if nothing had been guessed; a row counts only
//! as long as every token before it was chosen just as it was guessed. The answer is therefore the same,
//! token for token, as without speculation, under any sampling parameters and any grammar.
//!
//! Why that wastes nothing. Rejection sampling, which is the usual rule, accepts a guess `x` that was drawn
//! from `q` with probability `min(1, p(x)/q(x))`, and draws from the rest of `p` otherwise. A guess without
//! a distribution (a forced token, a repetition of earlier text) has `q(x) = 1`, so the rule accepts it with
//! probability `p(x)`: just the probability that a draw from `p` is `x`. For a draft model the draws are
//! coupled instead. The sampler's randomness is Gumbel noise `g(seed, position, token)`, and a choice is the
//! token with the greatest `log p + g`; the draft model chooses with the same parameters and therefore the
//! same noise, so that it guesses the token that the model will choose wherever the two distributions are
//! alike. The two then agree with a probability of at least `(1 - d) / (1 + d)`, where `d` is their distance
//! in total variation: a little less than the best possible `1 - d`, for which the answer would have
//! to depend on the guesses.
//!
//! Invariants: guesses are confirmed before they count as computed, are registered, or are seen by anyone;
//! the keys and values of wrong guesses lie beyond what is counted and are written over.

mod config;
mod draft;
mod lookup;
mod pace;

pub use config::{SpeculationConfig, SpeculationKind};
pub use draft::Drafter;
pub use lookup::Lookup;
pub use pace::Pace;

use crate::request::TokenId;
use crate::sequence::Sequence;

/// The longest run of forced tokens that is put into one step.
const MAX_FORCED: usize = 32;

/// What one sequence knows about guessing.
#[derive(Debug)]
pub struct Drafting {
    guesser: Guesser,
    pace: Pace,
    source: Source,
    /// Whether tokens that a grammar forces are put into one step.
    is_forced: bool,
    /// How many guesses the step may use: those already made, or, with a draft model, still to be made.
    n_wanted: usize,
}

/// Where a sequence's guesses come from, besides its grammar.
#[derive(Debug)]
enum Guesser {
    Nobody,
    Lookup(Box<Lookup>),
    Model,
}

/// Where the guesses of the present step come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Grammar,
    Guesser,
}

impl Drafting {
    pub fn new(config: &SpeculationConfig, prompt: &[TokenId]) -> Self {
        let guesser = match config.kind {
            SpeculationKind::Off => Guesser::Nobody,
            SpeculationKind::Lookup => {
                Guesser::Lookup(Box::new(Lookup::new(config.min_match..=config.max_match, prompt)))
            }
            SpeculationKind::Draft => Guesser::Model,
        };
        let pace = Pace::new(config.n_draft);
        Self { guesser, pace, source: Source::Guesser, is_forced: config.forced, n_wanted: 0 }
    }

    pub fn n_wanted(&self) -> usize {
        self.n_wanted
    }

    /// Whether a draft model has to make this step's guesses.
    pub fn wants_model(&self) -> bool {
        matches!(self.guesser, Guesser::Model) && self.source == Source::Guesser && self.n_wanted > 0
    }

    /// A token became part of the text.
    pub fn push(&mut self, token: TokenId) {
        match &mut self.guesser {
            Guesser::Lookup(lookup) => lookup.push(token),
            Guesser::Nobody | Guesser::Model => {}
        }
    }

    /// So many guesses were tried, and so many held.
    pub fn learn(&mut self, n_drafted: usize, n_accepted: usize) {
        match self.source {
            Source::Guesser if n_drafted > 0 => self.pace.learn(n_drafted, n_accepted),
            Source::Guesser | Source::Grammar => {}
        }
    }
}

/// Guesses what may follow a sequence's known text, up to `n_room` tokens: either into its drafts, or, if a
/// draft model is to guess, just how many.
pub fn propose(sequence: &mut Sequence, n_room: usize, has_model: bool) {
    sequence.tokens.truncate_drafts(0);
    let drafting = &mut sequence.drafting;
    drafting.n_wanted = 0;
    if n_room == 0 {
        return;
    }
    let forced = if drafting.is_forced { sequence.answer.forced() } else { Vec::new() };
    if !forced.is_empty() {
        drafting.source = Source::Grammar;
        let guesses = &forced[..forced.len().min(n_room).min(MAX_FORCED)];
        guesses.iter().for_each(|token| sequence.tokens.draft(*token));
        drafting.n_wanted = guesses.len();
        return;
    }
    drafting.source = Source::Guesser;
    match &mut drafting.guesser {
        Guesser::Nobody => {}
        Guesser::Lookup(lookup) => {
            let n_most = drafting.pace.n_wanted().min(n_room);
            lookup.guess(n_most).for_each(|token| sequence.tokens.draft(token));
            drafting.n_wanted = sequence.tokens.drafts().len();
        }
        Guesser::Model if !has_model => {}
        Guesser::Model => drafting.n_wanted = drafting.pace.n_wanted().min(n_room),
    }
}
