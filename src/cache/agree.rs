//! Whether two answers to like questions say the same, so that one could have been given for the other.
//!
//! By words first, then by the trained guard, then by an arbiter, where somebody brings one. What none can tell
//! counts as different: the promise about wrong answers may be kept too well, not too badly. Asks no upstream; an
//! arbiter may.
//!
//! Invariants: equal answers always agree; without a verdict nothing agrees.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::answer::StoredAnswer;
use super::guard::{self, Verdict};
use super::reader::{ReadError, ReadPair};

/// Above this the trained guard is believed that they say the same, below its counterpart that they do not.
const SURE_SAME: f64 = 0.8;
const SURE_DIFFERENT: f64 = 1.0 - SURE_SAME;
/// In short answers each word counts; long ones differ in some number or name by mere wording.
const MAX_SHORT_BYTES: usize = 256;
/// Longer answers are left to a judge: each sentence is read with another.
const MAX_SENTENCES: usize = 24;
/// What ends a sentence or a part of one.
const MARKS: &[char] = &['.', ',', '!', '?', ';', ':'];

/// What can compare answers.
pub(super) trait Agree: Send + Sync {
    fn agree<'a>(&'a self, cached: &'a StoredAnswer, fresh: &'a StoredAnswer) -> BoxFuture<'a, Agreement>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreement {
    Same,
    Different,
    /// Nobody could tell.
    Unsure,
}

/// What is asked about two answers where neither words nor the trained guard can tell.
pub trait Arbiter: Send + Sync {
    /// Whether both answers say the same; `None` where it cannot tell, either.
    fn same<'a>(&'a self, question: &'a str, cached: &'a str, fresh: &'a str) -> BoxFuture<'a, Option<bool>>;
}

/// What an arbiter makes of two answers to much the same question.
pub(super) async fn arbitrate(
    arbiter: &dyn Arbiter,
    question: &str,
    cached: &StoredAnswer,
    fresh: &StoredAnswer,
) -> Agreement {
    match arbiter.same(question, &said(&cached.body), &said(&fresh.body)).await {
        Some(true) => Agreement::Same,
        Some(false) => Agreement::Different,
        None => Agreement::Unsure,
    }
}

/// Compares as the gateway does.
pub(super) struct ByMeaning {
    pub(super) reader: Option<Arc<dyn ReadPair>>,
}

impl Agree for ByMeaning {
    fn agree<'a>(&'a self, cached: &'a StoredAnswer, fresh: &'a StoredAnswer) -> BoxFuture<'a, Agreement> {
        async move {
            let (cached, fresh) = (said(&cached.body), said(&fresh.body));
            let by_words = by_words(&cached, &fresh);
            let (Agreement::Unsure, Some(reader)) = (by_words, &self.reader) else { return by_words };
            match reader.p_same(&fresh, &cached).await {
                Ok(p_same) if p_same >= SURE_SAME => Agreement::Same,
                Ok(p_same) if p_same <= SURE_DIFFERENT => Agreement::Different,
                Ok(_) => Agreement::Unsure,
                Err(ReadError::TooLong { .. }) => by_sentences(&**reader, &cached, &fresh).await,
                Err(ReadError::Deadline { .. } | ReadError::Failed(_)) => Agreement::Unsure,
            }
        }
        .boxed()
    }
}

/// Long answers say the same when nearly all that each says is said by the other, too.
async fn by_sentences(reader: &dyn ReadPair, cached: &str, fresh: &str) -> Agreement {
    let (cached, fresh) = (sentences(cached), sentences(fresh));
    if cached.len().max(fresh.len()) > MAX_SENTENCES {
        return Agreement::Unsure;
    }
    let covered = (covered(reader, &cached, &fresh).await, covered(reader, &fresh, &cached).await);
    let (Some(forth), Some(back)) = covered else { return Agreement::Unsure };
    match forth.min(back) {
        least if least >= SURE_SAME => Agreement::Same,
        least if least <= SURE_DIFFERENT => Agreement::Different,
        _ => Agreement::Unsure,
    }
}

/// The share of the words of some sentences whose likest counterpart says the same.
async fn covered(reader: &dyn ReadPair, said: &[&str], by: &[&str]) -> Option<f64> {
    let (mut n_covered, mut n_words) = (0, 0);
    for sentence in said {
        let words = guard::content(sentence);
        let shared = |other: &&&str| guard::content(other).intersection(&words).count();
        let likest = by.iter().max_by_key(shared)?;
        let n_here = sentence.split_whitespace().count();
        n_words += n_here;
        let is_equal = folded(sentence) == folded(likest);
        if !is_equal && guard::compare(sentence, likest) != Verdict::Same {
            // Much the same sentence with another number, name or "not" may be the one that matters.
            if 2 * guard::content(likest).intersection(&words).count() >= words.len().max(1) {
                return None;
            }
            continue;
        }
        if is_equal || reader.p_same(sentence, likest).await.ok()? >= 0.5 {
            n_covered += n_here;
        }
    }
    (n_words > 0).then(|| n_covered as f64 / n_words as f64)
}

/// Lines, and what ends in a mark before a space.
fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut rest = line;
        while let Some(end) = [". ", "! ", "? "].iter().filter_map(|mark| rest.find(mark)).min() {
            let (sentence, after) = rest.split_at(end + 1);
            found.push(sentence);
            rest = after;
        }
        found.push(rest);
    }
    found.retain(|sentence| sentence.chars().any(char::is_alphanumeric));
    found
}

#[derive(Deserialize)]
struct WireAnswer {
    choices: Vec<WireChoice>,
}

#[derive(Deserialize)]
struct WireChoice {
    message: WireMessage,
}

#[derive(Deserialize)]
struct WireMessage {
    content: String,
}

/// The words of a chat completion; of anything else the whole.
fn said(body: &[u8]) -> String {
    let answer = serde_json::from_slice::<WireAnswer>(body).ok();
    let content =
        answer.and_then(|answer| answer.choices.into_iter().next()).map(|choice| choice.message.content);
    content.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
}

fn by_words(cached: &str, fresh: &str) -> Agreement {
    if folded(cached) == folded(fresh) {
        return Agreement::Same;
    }
    if let (Some(cached), Some(fresh)) = (as_json(cached), as_json(fresh)) {
        return if cached == fresh { Agreement::Same } else { Agreement::Different };
    }
    let are_short = cached.len().max(fresh.len()) <= MAX_SHORT_BYTES;
    if are_short && guard::compare(fresh, cached) != Verdict::Same {
        return Agreement::Different;
    }
    Agreement::Unsure
}

/// In lower case, parted by single spaces, without the marks that end words. A mark beside a digit or within code may
/// mean something and stays.
fn folded(text: &str) -> String {
    let plain = |word: &str| -> String {
        let bare = word.trim_end_matches(MARKS);
        let is_word = !bare.is_empty() && bare.chars().all(char::is_alphabetic);
        if is_word { bare.to_lowercase() } else { word.to_owned() }
    };
    text.split_whitespace().map(plain).collect::<Vec<_>>().join(" ")
}

fn as_json(text: &str) -> Option<serde_json::Value> {
    let is_compound = text.trim_start().starts_with(['{', '[']);
    is_compound.then(|| serde_json::from_str(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_differ_in_case_spaces_and_punctuation_agree() {
        for (cached, fresh) in [("Paris.", "paris"), ("Yes,  of course!", "Yes, of course."), ("", "")] {
            assert_eq!(by_words(cached, fresh), Agreement::Same, "{cached} | {fresh}");
        }
    }

    #[test]
    fn marks_that_may_mean_something_are_not_passed_over() {
        for (cached, fresh) in [
            ("rm -rf ./", "rm -rf /"),
            ("if (!ready)", "if (ready)"),
            ("a * b", "a b"),
            ("_id", "id"),
            (".5 dollars", "5 dollars"),
            ("5!", "5"),
        ] {
            assert_ne!(by_words(cached, fresh), Agreement::Same, "{cached} | {fresh}");
        }
    }

    #[test]
    fn short_answers_with_another_number_name_or_direction_differ() {
        for (cached, fresh) in [
            ("It costs 5 dollars.", "It costs 50 dollars."),
            ("Call Anna", "Call Maria"),
            ("It is on.", "It is off."),
            ("It is -5 today.", "It is 6 today."),
            ("3.5", "35"),
        ] {
            assert_eq!(by_words(cached, fresh), Agreement::Different, "{cached} | {fresh}");
        }
    }

    #[test]
    fn json_is_compared_by_value() {
        assert_eq!(by_words("{\"a\": 1, \"b\": [2]}", "{\"b\":[2],\"a\":1}"), Agreement::Same);
        assert_eq!(by_words("{\"a\": 1.5}", "{\"a\": 15}"), Agreement::Different);
    }

    #[test]
    fn what_words_cannot_tell_is_left_to_the_guard_and_long_answers_are_not_split_over_a_number() {
        assert_eq!(by_words("Open the settings.", "You will find it among the settings."), Agreement::Unsure);
        let long = "Open the settings and choose your profile. ".repeat(8);
        assert_eq!(by_words(&format!("1. {long}"), &long), Agreement::Unsure);
    }

    #[test]
    fn the_words_of_a_completion_are_its_first_answer() {
        let body = br#"{"choices":[{"message":{"role":"assistant","content":"Paris"}}],"usage":{}}"#;

        assert_eq!(said(body), "Paris");
        assert_eq!(said(b"{\"n\":1}"), "{\"n\":1}");
    }

    /// Takes texts for the same that begin with the same letter; reads no more than eight words.
    struct Initials;

    impl ReadPair for Initials {
        fn p_same<'a>(&'a self, new: &'a str, cached: &'a str) -> BoxFuture<'a, Result<f64, ReadError>> {
            let n_words = new.split_whitespace().count().max(cached.split_whitespace().count());
            let read = if n_words > 8 {
                Err(ReadError::TooLong { n_tokens: n_words, max_tokens: 8 })
            } else {
                Ok(if new.trim()[..1] == cached.trim()[..1] { 0.9 } else { 0.1 })
            };
            std::future::ready(read).boxed()
        }

        fn id(&self) -> &str {
            "initials"
        }
    }

    #[tokio::test]
    async fn long_answers_agree_when_each_sentence_has_its_like_on_both_sides() {
        let agree = async |cached: &str, fresh: &str| by_sentences(&Initials, cached, fresh).await;
        let cached = "Open the settings first. Choose the profile tab there. Save what was changed.";

        let reworded =
            "Open the settings at first. Choose the tab profile there. Save all changes that were made.";
        assert_eq!(agree(cached, reworded).await, Agreement::Same);
        let other = "Parcels arrive within a day. Nobody needs to sign. Drivers ring twice at the door.";
        assert_eq!(agree(cached, other).await, Agreement::Different);
        let half =
            "Open the settings first. Choose the profile tab there. Nobody else can see what you did there.";
        assert_eq!(agree(cached, half).await, Agreement::Unsure);
    }

    #[test]
    fn a_text_falls_into_sentences_and_numbers_stay_whole() {
        assert_eq!(
            sentences("It costs 3.5 dollars. Really!\n\n- one\n---"),
            ["It costs 3.5 dollars.", " Really!", "- one"]
        );
    }

    #[tokio::test]
    async fn without_a_guard_what_is_unsure_stays_so() {
        let answer = |body: &str| super::super::answer::sample_answer(body, 0);
        let by_meaning = ByMeaning { reader: None };

        assert_eq!(by_meaning.agree(&answer("open it"), &answer("Open it!")).await, Agreement::Same);
        assert_eq!(
            by_meaning.agree(&answer("open the settings"), &answer("you find it among the settings")).await,
            Agreement::Unsure
        );
    }
}
