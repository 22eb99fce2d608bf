//! A guess at complexity from the look of a text, for when the classifier cannot answer.
//!
//! Reads no model and learns nothing; its weights are judgement, written out below. It is meant to keep
//! everyday requests low and plain hard tasks high, not to rank what lies between.
//!
//! Invariants: pure; the same text gives the same score; the score is in [0, 1].

/// Words that ask for reasoning rather than recall, as they start: `prov` is prove, proof-of and proving.
const REASONING_STEMS: [&str; 20] = [
    "analys",
    "analyz",
    "architect",
    "compar",
    "critic",
    "debug",
    "deriv",
    "design",
    "diagnos",
    "evaluat",
    "explain",
    "generalis",
    "generaliz",
    "implement",
    "optimi",
    "plan",
    "proof",
    "prov",
    "refactor",
    "schedul",
];

/// Where a text with no sign of difficulty at all stands, in logits: about 0.1.
const BASE: f32 = -2.2;

/// What a sign adds, in logits, and how often it counts at most.
struct Sign {
    weight: f32,
    at_most: usize,
}

const REASONING: Sign = Sign { weight: 0.9, at_most: 4 };
const MATHS: Sign = Sign { weight: 0.4, at_most: 4 };
const CODE_FENCE: Sign = Sign { weight: 1.2, at_most: 1 };
const LIST_ITEM: Sign = Sign { weight: 0.25, at_most: 6 };
const CONNECTIVE: Sign = Sign { weight: 0.3, at_most: 4 };
const QUESTION_AFTER_FIRST: Sign = Sign { weight: 0.3, at_most: 3 };
/// A doubling of length beyond [`SHORT_WORDS`].
const DOUBLING: Sign = Sign { weight: 0.45, at_most: 6 };
const SHORT_WORDS: usize = 12;

/// The score of a text that has been capped already.
pub(super) fn score(text: &str) -> f32 {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let reasoning =
        words.iter().filter(|word| REASONING_STEMS.iter().any(|stem| word.starts_with(stem))).count();
    let connectives =
        words.iter().filter(|word| matches!(**word, "then" | "unless" | "while" | "subject")).count();
    let maths = text.chars().filter(|c| matches!(c, '=' | '^' | '\\' | '∫' | '∑' | '√' | '≤' | '≥')).count();
    let items = text
        .lines()
        .filter(|line| line.trim_start().starts_with(['-', '*', '1', '2', '3', '4', '5']))
        .count();
    let questions_after_first = text.matches('?').count().saturating_sub(1);
    let doublings = usize::try_from((words.len() / SHORT_WORDS).max(1).ilog2()).unwrap_or(usize::MAX);

    let logit = BASE
        + REASONING.times(reasoning)
        + MATHS.times(maths)
        + CODE_FENCE.times(text.matches("```").count())
        + LIST_ITEM.times(items)
        + CONNECTIVE.times(connectives)
        + QUESTION_AFTER_FIRST.times(questions_after_first)
        + DOUBLING.times(doublings);
    1.0 / (1.0 + (-logit).exp())
}

impl Sign {
    fn times(&self, n: usize) -> f32 {
        self.weight * n.min(self.at_most) as f32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn everyday_requests_are_low() {
        for text in ["What are your opening hours?", "Say hello", "What is the capital of France?", ""] {
            assert!(score(text) < 0.2, "{} for {text:?}", score(text));
        }
    }

    #[test]
    fn plain_hard_tasks_are_high() {
        for text in [
            "Prove that there are infinitely many primes of the form 4k+3, then generalise the argument.",
            "Design a lock-free MPMC queue with hazard pointers in C++ and prove linearizability",
            "Compare three designs for a ledger, derive their failure modes, then plan the migration.",
        ] {
            assert!(score(text) > 0.4, "{} for {text:?}", score(text));
        }
    }

    #[test]
    fn a_code_fence_raises_the_score() {
        assert!(score("fix ```x += 1``` please") > score("fix x += 1 please"));
    }

    #[test]
    fn length_alone_does_not_reach_the_top() {
        assert!(score(&"and so on ".repeat(400)) < 0.75);
    }

    proptest! {
        #[test]
        fn any_text_scores_between_nought_and_one(text in "\\PC{0,300}") {
            prop_assert!((0.0..=1.0).contains(&score(&text)));
        }
    }
}
