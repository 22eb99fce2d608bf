//! What may be guessed, and how much of it.

use serde::Deserialize;

/// `speculation`: guesses at the next tokens, which change the speed and never the answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpeculationConfig {
    /// Where guesses come from: `off`, `lookup` or `draft`. Default `off`.
    pub kind: SpeculationKind,
    /// The most tokens to guess at a time, 1 to 16. Default 4.
    pub n_draft: usize,
    /// For `lookup`: as many tokens at least must repeat before what followed them is guessed. Default 2.
    pub min_match: usize,
    /// For `lookup`: no more tokens than these are compared. Default 4.
    pub max_match: usize,
    /// Whether tokens that a grammar forces are put into one step, whatever the kind. Default true.
    pub forced: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpeculationKind {
    #[default]
    Off,
    /// What followed the last time that the present end of the text occurred.
    Lookup,
    /// A smaller model with the same vocabulary.
    Draft,
}

impl Default for SpeculationConfig {
    fn default() -> Self {
        Self { kind: SpeculationKind::Off, n_draft: 4, min_match: 2, max_match: 4, forced: true }
    }
}

impl SpeculationConfig {
    /// Every mistake, each naming its key.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let Self { n_draft, min_match, max_match, .. } = *self;
        if !(1..=16).contains(&n_draft) {
            mistakes.push(format!("`speculation.n_draft` is {n_draft}; it must be 1 to 16"));
        }
        if !(2..=8).contains(&min_match) {
            mistakes.push(format!("`speculation.min_match` is {min_match}; it must be 2 to 8"));
        }
        if !(min_match..=16).contains(&max_match) {
            mistakes.push(format!(
                "`speculation.max_match` is {max_match}; it must be at least `min_match`, {min_match}, and at most 16"
            ));
        }
        mistakes
    }
}
