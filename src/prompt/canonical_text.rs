//! The canonical form of a message's text: Unicode NFC, `\n` line ends, no trailing space.
//!
//! Deliberately leaves alone what carries meaning byte by byte: code between backticks and text
//! between double quotes. An opening mark without its closing one protects everything after it.
//!
//! Invariants: idempotent; protected spans come out as they went in; prose never gains a mark,
//! or the second pass would see other spans than the first.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Brings `text` into its canonical form, borrowing it when it is in it already.
pub fn canonical_text(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let prose_len = rest.find(['`', '"']).unwrap_or(rest.len());
        let (prose, marked) = rest.split_at(prose_len);
        push_prose(&mut out, prose, marked.is_empty());
        let (span, after) = marked.split_at(protected_len(marked));
        out.push_str(span);
        rest = after;
    }
    Cow::Owned(out)
}

/// Nothing to do: ASCII without carriage returns or space at the end of a line.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let clean = |pair: &[u8]| pair[1] != b'\n' || !matches!(pair[0], b' ' | b'\t');
    text.is_ascii()
        && !bytes.contains(&b'\r')
        && !bytes.last().is_some_and(u8::is_ascii_whitespace)
        && bytes.windows(2).all(clean)
}

/// How many bytes of `marked`, which opens with a mark, are protected.
fn protected_len(marked: &str) -> usize {
    let ticks = marked.bytes().take_while(|b| *b == b'`').count();
    if ticks == 0 {
        let closing = marked.get(1..).and_then(|inner| inner.find('"'));
        return closing.map_or(marked.len(), |idx| idx + 2);
    }
    let mut at = ticks;
    while let Some(found) = marked[at..].find('`') {
        let run_start = at + found;
        let run = marked[run_start..].bytes().take_while(|b| *b == b'`').count();
        at = run_start + run;
        if run == ticks {
            return at;
        }
    }
    marked.len()
}

fn push_prose(out: &mut String, prose: &str, is_last: bool) {
    let composed = if is_nfc(prose) { Cow::Borrowed(prose) } else { compose(prose) };
    let unix = composed.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = unix.split('\n').peekable();
    let start = out.len();
    while let Some(line) = lines.next() {
        if lines.peek().is_some() {
            out.push_str(line.trim_end_matches([' ', '\t']));
            out.push('\n');
        } else {
            out.push_str(line);
        }
    }
    if is_last {
        let kept = out[start..].trim_end_matches([' ', '\t', '\n']).len();
        out.truncate(start + kept);
    }
}

/// NFC, unless it would make a mark out of a look-alike (U+1FEF composes to a backtick).
fn compose(prose: &str) -> Cow<'_, str> {
    let composed: String = prose.nfc().collect();
    if composed.contains(['`', '"']) { Cow::Borrowed(prose) } else { Cow::Owned(composed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(canonical_text(text), expected, "{text:?}");
    }

    #[test]
    fn line_ends_trailing_space_and_composition_do_not_matter() {
        check("hello", "hello");
        check("a  \r\nb\t\rc \n\n", "a\nb\nc");
        check("cafe\u{301}", "caf\u{e9}");
        check("  indented stays", "  indented stays");
    }

    #[test]
    fn code_and_quoted_strings_stay_byte_for_byte() {
        check("run `a  \r\n` now ", "run `a  \r\n` now");
        check("```\nx = 1  \r\n``` \n", "```\nx = 1  \r\n```");
        check("say \"e\u{301}  \n\" ", "say \"e\u{301}  \n\"");
        check("open ` and never closed  \r\n", "open ` and never closed  \r\n");
    }

    #[test]
    fn a_character_that_would_compose_to_a_mark_is_left_alone() {
        check("\u{1fef} e\u{301} ", "\u{1fef} e\u{301}");
    }

    fn prompts() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            Just("`"),
            Just("```"),
            Just("\""),
            Just("\r\n"),
            Just("\r"),
            Just("\n"),
            Just(" "),
            Just("\t"),
            Just("e\u{301}"),
            Just("\u{1fef}"),
            Just("\u{301}"),
            Just("3.14"),
            Just("fn main() {}"),
            Just("Å"),
            Just("\u{2126}"),
            Just("한"),
            Just("not"),
        ]
        .prop_map(str::to_owned);
        prop::collection::vec(prop_oneof![pieces, "\\PC{0,6}"], 0..24).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn twice_is_once(text in prompts()) {
            let once = canonical_text(&text).into_owned();
            prop_assert_eq!(canonical_text(&once).into_owned(), once);
        }

        #[test]
        fn numbers_and_words_survive(text in prompts()) {
            let meaning = |text: &str| text.nfc().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(meaning(&canonical_text(&text)), meaning(&text));
        }

        #[test]
        fn what_stands_between_marks_is_untouched(before in "[a-z \\n]{0,9}", code in "[^`\"]{1,40}", after in "[a-z]{1,5}") {
            for (open, close) in [("```", "```"), ("`", "`"), ("\"", "\"")] {
                let span = format!("{open}{code}{close}");
                let canonical = canonical_text(&format!("{before}{span}{after}  ")).into_owned();
                let expected = format!("{span}{after}");
                prop_assert!(canonical.ends_with(&expected), "{}", canonical);
            }
        }
    }
}
