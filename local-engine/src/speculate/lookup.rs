//! Guesses that the text goes on as it did the last time that its present end occurred.
//!
//! Looks at one text only, prompt and answer, and at no model.
//!
//! Invariants: a guess is a copy of earlier text; adding a token and guessing take time that does not grow
//! with the text.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use crate::request::TokenId;

/// How many earlier places are compared at most; texts in which two tokens repeat more often are dull.
const MAX_PLACES: usize = 32;

/// No earlier place.
const NOWHERE: u32 = u32::MAX;

/// A text with an index of the pairs of tokens in it, as a chain from each place to the one before.
#[derive(Debug)]
pub struct Lookup {
    /// How many tokens at the end of the text must repeat, and how many are worth comparing.
    lens: RangeInclusive<usize>,
    text: Vec<TokenId>,
    /// The position after the last pair of this kind that something followed.
    latest: HashMap<(TokenId, TokenId), u32>,
    /// By position: the position after the pair of this kind before it.
    earlier: Vec<u32>,
}

impl Lookup {
    pub fn new(lens: RangeInclusive<usize>, text: &[TokenId]) -> Self {
        let (latest, earlier) = (HashMap::new(), Vec::new());
        let mut lookup = Self { lens, text: Vec::new(), latest, earlier };
        text.iter().for_each(|token| lookup.push(*token));
        lookup
    }

    /// The text goes on.
    pub fn push(&mut self, token: TokenId) {
        // A pair is of use only once something follows it: it is entered with the token after it.
        let position = self.text.len();
        let before = match *self.text.as_slice() {
            [.., a, b] => self.latest.insert((a, b), position as u32),
            [] | [_] => None,
        };
        self.earlier.push(before.unwrap_or(NOWHERE));
        self.text.push(token);
    }

    /// What followed the place that agrees longest with the end of the text, the latest of such places.
    /// Where that runs into the end of the text it goes on with itself: a text that repeats goes on to.
    pub fn guess(&self, n_most: usize) -> impl Iterator<Item = TokenId> + '_ {
        self.best_place()
            .into_iter()
            .flat_map(|place| self.text[place..].iter().cycle())
            .take(n_most)
            .copied()
    }

    fn best_place(&self) -> Option<usize> {
        let [.., a, b] = *self.text.as_slice() else { return None };
        let first = self.latest.get(&(a, b)).copied();
        let places = std::iter::successors(first, |place| {
            Some(self.earlier[*place as usize]).filter(|place| *place != NOWHERE)
        });
        let mut best = None;
        for place in places.take(MAX_PLACES) {
            let n_same = self.n_same(place as usize);
            if n_same >= *self.lens.start() && best.is_none_or(|(n_best, _)| n_same > n_best) {
                best = Some((n_same, place as usize));
            }
            if n_same >= *self.lens.end() {
                break;
            }
        }
        best.map(|(_, place)| place)
    }

    /// How many tokens before the place are as those at the end of the text.
    fn n_same(&self, place: usize) -> usize {
        let end = self.text.iter().rev();
        let there = self.text[..place].iter().rev();
        end.zip(there).take(*self.lens.end()).take_while(|(a, b)| a == b).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOTHING: [TokenId; 0] = [];

    fn guess(text: &[TokenId], n_most: usize) -> Vec<TokenId> {
        Lookup::new(2..=4, text).guess(n_most).collect()
    }

    #[test]
    fn what_followed_the_last_time_is_guessed() {
        assert_eq!(guess(&[1, 2, 3, 4, 9, 1, 2], 3), [3, 4, 9]);
        assert_eq!(guess(&[1, 2, 3, 4, 9, 1, 2], 2), [3, 4]);
        assert_eq!(guess(&[1, 2, 3, 4, 9, 1, 2], 0), NOTHING);
    }

    #[test]
    fn the_latest_of_equally_long_matches_is_taken() {
        assert_eq!(guess(&[1, 2, 3, 1, 2, 4, 8, 1, 2], 1), [4]);
    }

    #[test]
    fn a_longer_match_is_taken_before_a_later_one() {
        assert_eq!(guess(&[7, 1, 2, 3, 1, 2, 4, 7, 1, 2], 1), [3]);
    }

    #[test]
    fn a_single_token_that_repeats_is_no_reason_to_guess() {
        assert_eq!(guess(&[1, 2, 3, 2], 4), NOTHING);
        assert_eq!(guess(&[], 4), NOTHING);
        assert_eq!(guess(&[1], 4), NOTHING);
        assert_eq!(guess(&[1, 2], 4), NOTHING);
    }

    #[test]
    fn a_match_shorter_than_demanded_is_none() {
        let lookup = Lookup::new(3..=4, &[9, 1, 2, 3, 8, 1, 2]);
        assert_eq!(lookup.guess(1).collect::<Vec<_>>(), NOTHING);

        let lookup = Lookup::new(3..=4, &[9, 1, 2, 3, 9, 1, 2]);
        assert_eq!(lookup.guess(1).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_text_that_repeats_is_guessed_to_go_on_repeating() {
        assert_eq!(guess(&[5, 5], 3), NOTHING);
        assert_eq!(guess(&[5, 5, 5], 3), [5, 5, 5]);
        assert_eq!(guess(&[8, 1, 2, 3, 1, 2], 7), [3, 1, 2, 3, 1, 2, 3]);
    }

    /// The same, by looking at every place.
    fn slow_guess(text: &[TokenId], n_most: usize) -> Vec<TokenId> {
        let end = text.len();
        for len in (2..=4.min(end)).rev() {
            let place = (len..end).rev().find(|place| text[place - len..*place] == text[end - len..]);
            if let Some(place) = place {
                return (0..n_most).map(|idx| text[place + idx % (end - place)]).collect();
            }
        }
        Vec::new()
    }

    proptest! {
        #[test]
        fn a_guess_is_what_a_search_of_the_whole_text_finds(
            text in proptest::collection::vec(0..4_u32, 0..60),
            n_most in 0..6_usize,
        ) {
            prop_assert_eq!(guess(&text, n_most), slow_guess(&text, n_most));
        }
    }
}
