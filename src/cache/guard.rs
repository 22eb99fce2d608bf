//! Tells whether two texts that are alike ask for different things, by their words alone.
//!
//! Pure. Measures no likeness: that is the embedder's part, and it is blind to what is looked for
//! here — a number, a "not", a direction. Knows English best; numbers, ids, quotes and names hold in
//! any language that parts its words by spaces.
//!
//! Invariants: a text is the same as itself; the verdict does not depend on which text comes first.

mod opposites;
mod order;
mod token;
mod units;
mod words;

use std::collections::BTreeSet;

use token::{Token, quotations, tokens};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing found that sets them apart.
    Same,
    Differs(Why),
}

/// What sets two texts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    Quotation,
    Number,
    Unit,
    Identifier,
    Negation,
    /// Opposites: on and off, before and after, enable and disable.
    Direction,
    /// Two of one kind: Monday and Friday, gold and silver.
    Kind,
    Name,
    /// What is asked: who, when, where or why.
    Asked,
    /// The same words the other way round: from A to B.
    Order,
}

impl Why {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quotation => "quotation",
            Self::Number => "number",
            Self::Unit => "unit",
            Self::Identifier => "identifier",
            Self::Negation => "negation",
            Self::Direction => "direction",
            Self::Kind => "kind",
            Self::Name => "name",
            Self::Asked => "asked",
            Self::Order => "order",
        }
    }
}

/// Compares two texts; the first difference found is told.
pub fn compare(a: &str, b: &str) -> Verdict {
    if a == b {
        return Verdict::Same;
    }
    let (a, b) = (Reading::of(a), Reading::of(b));
    let checks = [
        (Why::Quotation, a.misquotes(&b) || b.misquotes(&a)),
        (Why::Number, a.numbers != b.numbers),
        (Why::Unit, replaced(&a.units, &b.units)),
        (Why::Identifier, a.identifiers != b.identifiers),
        (Why::Negation, a.n_negations != b.n_negations),
        (Why::Direction, turns(&a, &b)),
        (Why::Kind, swaps_kind(&a, &b)),
        (Why::Name, renames(&a, &b)),
        (Why::Asked, replaced(&a.asked, &b.asked)),
        (Why::Order, order::is_reversed(&a.words, &b.words)),
    ];
    match checks.into_iter().find(|(_, differs)| *differs) {
        Some((why, _)) => Verdict::Differs(why),
        None => Verdict::Same,
    }
}

/// What a text is about: its words without their endings and without those of grammar, its numbers and ids.
pub fn content(text: &str) -> BTreeSet<String> {
    let reading = Reading::of(text);
    let words = reading.words.iter().filter(|word| words::is_content(word));
    let stems = words.map(|word| words::stem(word).to_owned());
    stems.chain(reading.numbers).chain(reading.identifiers).collect()
}

/// What is compared of a text.
struct Reading {
    quotations: Vec<String>,
    /// The whole text in lower case.
    lower: String,
    /// In order: 5 to 10 is not 10 to 5.
    numbers: Vec<String>,
    units: BTreeSet<&'static str>,
    identifiers: BTreeSet<String>,
    n_negations: usize,
    asked: BTreeSet<&'static str>,
    names: BTreeSet<String>,
    /// Every word, lower case, in order.
    words: Vec<String>,
    /// Every word without its ending.
    stems: BTreeSet<String>,
}

impl Reading {
    fn of(text: &str) -> Self {
        let tokens = tokens(text);
        let words: Vec<String> = tokens.iter().filter_map(Token::word).map(str::to_owned).collect();
        let numbers = tokens.iter().filter_map(Token::number).map(str::to_owned).collect();
        let units = tokens.iter().filter_map(Token::unit).collect();
        let identifiers = tokens.iter().filter_map(Token::identifier).map(str::to_owned).collect();
        Self {
            quotations: quotations(text),
            lower: text.to_lowercase(),
            numbers,
            units,
            identifiers,
            n_negations: words::n_negations(&words),
            asked: words.iter().filter_map(|word| words::asked(word)).collect(),
            names: token::names(&tokens),
            stems: words.iter().map(|word| words::stem(word).to_owned()).collect(),
            words,
        }
    }

    fn says(&self, word: &str) -> bool {
        self.stems.contains(words::stem(word))
    }

    /// Whether it quotes what the other does not say, in quotation marks or not.
    fn misquotes(&self, other: &Self) -> bool {
        self.quotations.iter().any(|quoted| !other.lower.contains(quoted))
    }

    fn says_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.says(word))
    }
}

/// Each text has something the other lacks. One that merely says more is no contradiction.
fn replaced<T: Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> bool {
    !a.is_subset(b) && !b.is_subset(a)
}

/// One says a pole where the other says its opposite.
fn turns(a: &Reading, b: &Reading) -> bool {
    let across = opposites::OPPOSITES.iter().any(|(pole, opposite)| {
        let said = [a.says_any(pole), a.says_any(opposite), b.says_any(pole), b.says_any(opposite)];
        said == [true, false, false, true] || said == [false, true, true, false]
    });
    across || reverses(a, b) || reverses(b, a)
}

/// `a` says a word that `b` says with a reversing prefix: subscribe and unsubscribe.
fn reverses(a: &Reading, b: &Reading) -> bool {
    a.stems.difference(&b.stems).any(|stem| {
        stem.len() >= 3
            && opposites::REVERSING.iter().any(|prefix| {
                let reversed = format!("{prefix}{stem}");
                b.stems.contains(&reversed) && !a.stems.contains(&reversed)
            })
    })
}

/// Each names members of one kind that the other does not.
fn swaps_kind(a: &Reading, b: &Reading) -> bool {
    opposites::KINDS.iter().any(|members| {
        let said = |reading: &Reading| -> BTreeSet<&str> {
            members.iter().copied().filter(|member| reading.says(member)).collect()
        };
        replaced(&said(a), &said(b))
    })
}

/// A name of one stands nowhere in the other, in capitals or not, and the other way round.
fn renames(a: &Reading, b: &Reading) -> bool {
    let lacks = |names: &BTreeSet<String>, other: &Reading| {
        names.iter().any(|name| !other.stems.contains(words::stem(name)))
    };
    lacks(&a.names, b) && lacks(&b.names, a)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(a: &str, b: &str, expected: Verdict) {
        assert_eq!(compare(a, b), expected, "{a:?} and {b:?}");
        assert_eq!(compare(b, a), expected, "{b:?} and {a:?}");
    }

    #[test]
    fn texts_that_ask_for_different_things_are_told_apart() {
        for (why, a, b) in [
            (Why::Direction, "turn on dark mode", "turn off dark mode"),
            (Why::Direction, "Enable two-factor login", "Disable two-factor login"),
            (Why::Direction, "how do I subscribe?", "how do I unsubscribe?"),
            (Why::Direction, "locking my card", "unlock my card"),
            (Why::Direction, "what to do before surgery", "what to do after surgery"),
            (Why::Negation, "coffee with sugar", "coffee without sugar"),
            (Why::Number, "transfer 10", "transfer 100"),
            (Why::Number, "transfer $10 to savings", "transfer $1,000 to savings"),
            (Why::Number, "What is 17 times 23?", "What is 17 times 24?"),
            (Why::Number, "news of 2024-01-05", "news of 2024-05-01"),
            (Why::Number, "wake me at 7:30", "wake me at 8:30"),
            (Why::Number, "convert 5 to base 10", "convert 10 to base 5"),
            (Why::Number, "add three eggs", "add four eggs"),
            (Why::Unit, "a rope of 5 m", "a rope of 5 ft"),
            (Why::Unit, "10% of the sum", "10€ of the sum"),
            (Why::Identifier, "status of order AB-123", "status of order AB-124"),
            (Why::Identifier, "install libfoo2", "install libfoo3"),
            (Why::Identifier, "functions in C", "functions in C++"),
            (Why::Identifier, "mail to ann@example.com", "mail to bob@example.com"),
            (Why::Negation, "can I fly with a dog", "can't I fly with a dog"),
            (Why::Negation, "Which drugs may I take?", "Which drugs may I not take?"),
            (Why::Negation, "it does work", "it doesnt work"),
            (Why::Order, "Flights from A to B", "Flights from B to A"),
            (Why::Order, "Convert miles to kilometres", "Convert kilometres to miles"),
            (Why::Order, "does stress cause insomnia", "does insomnia cause stress"),
            (Why::Order, "man bites dog", "dog bites man"),
            (Why::Quotation, "translate \"good day\"", "translate \"good night\""),
            (Why::Quotation, "what does `ls` do", "what does `rm` do"),
            (Why::Kind, "open on monday?", "open on friday?"),
            (Why::Kind, "upgrade to a gold account", "upgrade to a platinum account"),
            (Why::Name, "the weather in Paris", "the weather in London"),
            (Why::Asked, "when is the meeting", "where is the meeting"),
        ] {
            check(a, b, Verdict::Differs(why));
        }
    }

    #[test]
    fn texts_that_say_the_same_in_other_words_pass() {
        for (a, b) in [
            ("How do I reset my password?", "how can I reset my password"),
            ("reset my password", "my password, how do I reset it?"),
            ("I don't know how to cancel my order", "how to cancel my order"),
            ("flights from A to B", "flights to B from A"),
            ("the difference between cats and dogs", "the difference between dogs and cats"),
            ("transfer 1,000 dollars", "please transfer 1000 dollars"),
            ("transfer $5", "transfer 5 dollars"),
            ("add three eggs", "add 3 eggs"),
            ("the weather in paris", "What is the weather in Paris?"),
            ("wake me at 7:30", "please wake me up at 7:30"),
            ("it’s 10 km", "it is 10 kilometers"),
            ("What's the Capital of France?", "what is the capital of france"),
            ("I cannot log in", "I can't log in"),
            ("the app reverted my payment", "my payment was reverted by the app"),
            ("my refund is not on my statement", "my statement does not show my refund"),
            ("my transfer is still \"pending\"", "my transfer is still pending"),
            ("refunding$160", "refunding $160"),
            ("can you give me a card", "can I get a card"),
        ] {
            check(a, b, Verdict::Same);
        }
    }

    #[test]
    fn the_content_of_a_text_is_what_other_wordings_share() {
        assert_eq!(content("How do I cancel order AB-123?"), content("please cancel my order AB-123"));
        assert_ne!(content("cancel 3 orders"), content("cancel 4 orders"));
    }

    #[test]
    fn a_text_that_only_says_more_is_not_told_apart_by_its_words() {
        check("cancel my order", "please cancel my order today", Verdict::Same);
    }

    proptest! {
        #[test]
        fn any_text_is_the_same_as_itself(text in "\\PC{0,60}") {
            prop_assert_eq!(compare(&text, &text.clone()), Verdict::Same);
            let again = Reading::of(&text);
            let same = Reading::of(&text);
            prop_assert!(!order::is_reversed(&again.words, &same.words));
            prop_assert!(!turns(&again, &same) && !swaps_kind(&again, &same) && !renames(&again, &same));
        }

        #[test]
        fn the_verdict_does_not_depend_on_the_order_of_the_texts(
            a in "(turn|not|on|off|from|to|A1|Bob|5|ten|kg|\"x\"|when|who|[a-c]| |,){0,12}",
            b in "(turn|not|on|off|from|to|A1|Bob|5|ten|kg|\"x\"|when|who|[a-c]| |,){0,12}",
        ) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a));
        }
    }
}
