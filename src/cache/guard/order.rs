//! Finds words that changed sides: "from A to B" and "from B to A".
//!
//! Does not look at what the words mean.
//!
//! Invariants: symmetric in its two texts; false when they are equal.

use std::collections::{BTreeSet, HashMap};

use super::words;

/// More words than this are a document, where sides say little and comparing all pairs is slow.
const MAX_WORDS: usize = 96;

/// Two words stand on either side of a third in both texts, but on opposite sides. The third is one
/// that points, such as "to"; or any word of matter where the texts have all such words in common:
/// "man bites dog". So "my password, how do I reset it" may still be "how do I reset my password".
pub(super) fn is_reversed(a: &[String], b: &[String]) -> bool {
    if a.len() > MAX_WORDS || b.len() > MAX_WORDS {
        return false;
    }
    let shared = shared_once(a, b);
    let is_rearranged = is_rearranged(a, b);
    let turns = |pivot: &str| words::is_directed(pivot) || (is_rearranged && words::is_content(pivot));
    let content: Vec<&Shared> = shared.iter().filter(|word| words::is_content(word.text)).collect();
    content.iter().any(|x| {
        content.iter().any(|y| x.a_idx < y.a_idx && x.b_idx > y.b_idx && has_pivot(&shared, x, y, turns))
    })
}

struct Shared<'a> {
    text: &'a str,
    a_idx: usize,
    b_idx: usize,
}

/// The same words of matter, and both or neither in the passive voice.
fn is_rearranged(a: &[String], b: &[String]) -> bool {
    let content = |text: &[String]| -> BTreeSet<String> {
        text.iter().filter(|word| words::is_content(word)).map(|word| words::stem(word).to_owned()).collect()
    };
    let is_passive = |text: &[String]| text.iter().any(|word| word == "by");
    is_passive(a) == is_passive(b) && content(a) == content(b)
}

fn has_pivot(shared: &[Shared<'_>], x: &Shared<'_>, y: &Shared<'_>, turns: impl Fn(&str) -> bool) -> bool {
    shared.iter().any(|pivot| {
        turns(pivot.text)
            && (x.a_idx + 1..y.a_idx).contains(&pivot.a_idx)
            && (y.b_idx + 1..x.b_idx).contains(&pivot.b_idx)
    })
}

/// The words that stand exactly once in each text.
fn shared_once<'a>(a: &'a [String], b: &[String]) -> Vec<Shared<'a>> {
    let once_in_b = once(b);
    let mut shared: Vec<Shared<'a>> = once(a)
        .into_iter()
        .filter_map(|(text, a_idx)| once_in_b.get(text).map(|b_idx| Shared { text, a_idx, b_idx: *b_idx }))
        .collect();
    shared.sort_unstable_by_key(|word| word.a_idx);
    shared
}

fn once(words: &[String]) -> HashMap<&str, usize> {
    let mut places: HashMap<&str, Option<usize>> = HashMap::new();
    for (idx, word) in words.iter().enumerate() {
        places.entry(word).and_modify(|place| *place = None).or_insert(Some(idx));
    }
    places.into_iter().filter_map(|(word, place)| place.map(|idx| (word, idx))).collect()
}
