//! The small words of English and the plainest of its grammar: negations, endings, contractions.
//!
//! Only tables and what reads them; no decisions.
//!
//! Invariants: all words are lower case.

/// In the languages most often met.
const NEGATIONS: &[&str] = &[
    "not", "no", "never", "none", "nothing", "nobody", "neither", "nor", "without", "except", "nicht",
    "kein", "keine", "ohne", "jamais", "sans", "nunca", "sin", "nao", "não", "non",
];

/// Said of the speaker, not of what is asked.
const NOT_ASKED: &[&[&str]] = &[
    &["do", "not", "know"],
    &["not", "sure"],
    &["no", "idea"],
    &["do", "not", "understand"],
    &["do", "not", "remember"],
    &["can", "not", "remember"],
    &["or", "not"],
    &["why", "not"],
];

const APOSTROPHE_LESS: &[(&str, &str)] = &[
    ("dont", "do"),
    ("doesnt", "does"),
    ("didnt", "did"),
    ("cant", "can"),
    ("cannot", "can"),
    ("wont", "will"),
    ("isnt", "is"),
    ("arent", "are"),
    ("wasnt", "was"),
    ("werent", "were"),
    ("couldnt", "could"),
    ("shouldnt", "should"),
    ("wouldnt", "would"),
    ("havent", "have"),
    ("hasnt", "has"),
    ("hadnt", "had"),
    ("mustnt", "must"),
    ("neednt", "need"),
];

/// Words that carry grammar rather than matter.
const GRAMMAR: &[&str] = &[
    "a", "an", "the", "i", "me", "my", "mine", "you", "your", "we", "us", "our", "it", "its", "he", "him",
    "his", "she", "her", "they", "them", "their", "this", "that", "these", "those", "there", "here", "is",
    "are", "was", "were", "be", "been", "being", "am", "do", "does", "did", "done", "have", "has", "had",
    "having", "can", "could", "will", "would", "shall", "should", "may", "might", "must", "need", "want",
    "please", "what", "which", "who", "whom", "whose", "when", "where", "why", "how", "and", "or", "but",
    "if", "then", "so", "as", "at", "by", "for", "from", "in", "into", "of", "off", "on", "onto", "out",
    "over", "to", "up", "with", "about", "than", "not", "no", "some", "any", "just", "also", "too", "very",
    "get", "got", "let", "help", "know", "tell", "like", "im", "ok", "hi", "hello", "thanks", "one", "vs",
    "versus", "between",
];

/// What stands on either side of them is not the same thing.
const DIRECTED: &[&str] = &[
    "to", "into", "onto", "from", "than", "before", "after", "over", "under", "above", "below", "against",
    "until", "minus", "causes", "cause", "beats", "beat",
];

const ENDINGS: &[&str] = &["ations", "ation", "ings", "ing", "ies", "ied", "ers", "ed", "es", "s", "e"];

/// What kind of thing is asked for; "how" and "what" take too many shapes to tell.
pub(super) fn asked(word: &str) -> Option<&'static str> {
    ["who", "when", "where", "why"].into_iter().find(|asked| *asked == word)
}

pub(super) fn is_content(word: &str) -> bool {
    !GRAMMAR.contains(&word)
}

pub(super) fn is_directed(word: &str) -> bool {
    DIRECTED.contains(&word)
}

/// A word without its apostrophe: "can't" is "can" and "not".
pub(super) fn written_out(word: &str) -> Vec<&str> {
    if let Some((_, verb)) = APOSTROPHE_LESS.iter().find(|(written, _)| *written == word) {
        return vec![verb, "not"];
    }
    match word {
        "can't" => return vec!["can", "not"],
        "won't" => return vec!["will", "not"],
        "shan't" => return vec!["shall", "not"],
        _ => {}
    }
    if let Some(verb) = word.strip_suffix("n't") {
        return vec![verb, "not"];
    }
    let bare = word.trim_matches('\'');
    vec![bare.split_once('\'').map_or(bare, |(front, _)| front)]
}

/// How often the text says no, but for phrases that speak of the speaker.
pub(super) fn n_negations(words: &[String]) -> usize {
    let said = words.iter().filter(|word| NEGATIONS.contains(&word.as_str())).count();
    let excused: usize = NOT_ASKED
        .iter()
        .map(|phrase| words.windows(phrase.len()).filter(|window| window.iter().eq(phrase.iter())).count())
        .sum();
    said.saturating_sub(excused)
}

/// A word without its ending, so that forms of one word are equal. Rough: it is only ever compared
/// with other stems.
pub(super) fn stem(word: &str) -> &str {
    if !word.is_ascii() || word.len() < 4 {
        return word;
    }
    let ended = |ending: &&str| word.strip_suffix(ending).filter(|front| front.len() >= 3);
    let stem = ENDINGS.iter().find_map(ended).unwrap_or(word);
    let is_doubled = matches!(stem.as_bytes(), [_, .., a, b] if a == b && !b"ls".contains(a));
    let stem = if is_doubled { &stem[..stem.len() - 1] } else { stem };
    stem.trim_end_matches(['e', 'y', 'i'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_share_a_stem() {
        for forms in [
            &["subscribe", "subscribing", "subscribed", "subscribes"][..],
            &["enable", "enabled", "enabling"],
            &["stop", "stopping", "stopped", "stops"],
            &["cancel", "cancels", "canceling"],
            &["delete", "deleted", "deleting"],
        ] {
            assert!(forms.iter().all(|form| stem(form) == stem(forms[0])), "{forms:?}");
        }
    }
}
