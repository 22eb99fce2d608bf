//! Reads the text of a chunk without parsing it, when it is written like one that was parsed before.
//!
//! Nearly all chunks of a stream differ in a few characters of text and in nothing else. Whoever
//! parsed one learns its shape, and compares bytes from then on. Anything unusual is left to the parser.
//!
//! Invariants: a chunk that fits is valid JSON and, but for its text, means what the learned one meant.

use serde_json::value::RawValue;

use super::members::{Members, is_null, place_in};

/// A stream whose chunks do not settle into one shape is parsed to its end.
const MAX_LESSONS: u32 = 8;

/// The shapes of one stream: the one learned last, and how often it may still be learned anew.
#[derive(Debug)]
pub struct Shapes {
    known: Option<Shape>,
    n_lessons_left: u32,
}

impl Default for Shapes {
    fn default() -> Self {
        Self { known: None, n_lessons_left: MAX_LESSONS }
    }
}

impl Shapes {
    /// Learns from a chunk that was parsed and did not fit.
    pub fn learn(&mut self, chunk: &[u8]) {
        if self.n_lessons_left == 0 {
            return;
        }
        self.n_lessons_left -= 1;
        if let Some(shape) = Shape::of(chunk) {
            self.known = Some(shape);
        }
    }

    /// What the chunk adds, if that is all it does.
    pub fn read<'a>(&self, chunk: &'a [u8]) -> Option<Added<'a>> {
        self.known.as_ref()?.read(chunk)
    }
}

/// Text that a chunk adds to a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added<'a> {
    pub choice_idx: u32,
    pub field: Field,
    /// The inside of the JSON string, escapes and all.
    pub inner: &'a str,
    pub n_chars: usize,
}

/// Where a choice's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `delta.content`.
    Content,
    /// `text`.
    Text,
}

#[derive(Debug)]
struct Shape {
    choice_idx: u32,
    field: Field,
    /// Up to the text, with its opening quote.
    before: Box<[u8]>,
    /// From the text's closing quote on; with padding, up to its opening quote.
    after: Box<[u8]>,
    /// Ends with OpenAI's `obfuscation`, random letters that differ in each chunk.
    has_padding: bool,
}

impl Shape {
    fn of(chunk: &[u8]) -> Option<Self> {
        let members = Members::parse(chunk).ok()?;
        let choices: Vec<Members<'_>> = serde_json::from_str(members.get("choices")?.get()).ok()?;
        let [choice] = choices.as_slice() else { return None };
        let is_silent = |member: Option<&RawValue>| member.is_none_or(is_null);
        let says_more = ["usage", "error"].iter().any(|name| !is_silent(members.get(name)))
            || ["logprobs", "finish_reason"].iter().any(|name| !is_silent(choice.get(name)));
        if says_more {
            return None;
        }
        let delta = choice.get("delta").map(Members::of);
        let (field, text) = match (&delta, choice.get("text")) {
            (Some(Some(delta)), None) if delta.iter().count() == 1 => (Field::Content, delta.get("content")?),
            (None, Some(text)) => (Field::Text, text),
            (_, _) => return None,
        };
        let choice_idx = choice.get("index").map_or(Ok(0), |idx| serde_json::from_str(idx.get())).ok()?;
        let inner = place_in(chunk, text.get().strip_prefix('"')?.strip_suffix('"')?);
        let padding = members.get("obfuscation").map(|padding| place_in(chunk, padding.get()));
        let padding = padding.filter(|place| chunk[place.end..] == *b"}" && place.start > inner.end);
        let after_end = padding.as_ref().map_or(chunk.len(), |place| place.start + 1);
        Some(Self {
            choice_idx,
            field,
            before: chunk[..inner.start].into(),
            after: chunk[inner.end..after_end].into(),
            has_padding: padding.is_some(),
        })
    }

    fn read<'a>(&self, chunk: &'a [u8]) -> Option<Added<'a>> {
        let mut rest = chunk.strip_prefix(&*self.before)?;
        if self.has_padding {
            let padded = rest.strip_suffix(b"\"}")?;
            let quote_idx = memchr::memrchr(b'"', padded)?;
            if !padded[quote_idx + 1..].iter().all(u8::is_ascii_alphanumeric) {
                return None;
            }
            rest = &padded[..=quote_idx];
        }
        let inner = rest.strip_suffix(&*self.after)?;
        let n_escapes = count_escapes(inner)?;
        let inner = std::str::from_utf8(inner).ok()?;
        let n_chars = inner.chars().count() - n_escapes;
        Some(Added { choice_idx: self.choice_idx, field: self.field, inner, n_chars })
    }
}

/// How many escapes of one letter the inside of a string has; `None` if it holds any other, or what
/// no string may hold.
fn count_escapes(inner: &[u8]) -> Option<usize> {
    let mut n_escapes = 0;
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' | 0..=0x1f => return None,
            b'\\' => match bytes.next()? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => n_escapes += 1,
                _ => return None,
            },
            _ => {}
        }
    }
    Some(n_escapes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str, more: &str) -> String {
        let choice = format!(r#"{{"index":2,"delta":{{"content":"{text}"}},"finish_reason":null}}"#);
        format!(r#"{{"id":"c","choices":[{choice}],"usage":null{more}}}"#)
    }

    fn read(learned: &str, chunk: &str) -> Option<(String, usize)> {
        let mut shapes = Shapes::default();
        shapes.learn(learned.as_bytes());
        shapes.read(chunk.as_bytes()).map(|added| (added.inner.to_owned(), added.n_chars))
    }

    #[test]
    fn chunks_of_the_learned_shape_give_their_text() {
        let learned = chunk("first", "");

        for (text, n_chars) in
            [("", 0), (" word", 5), (r#"a\n\"é"#, 4), (r"\\", 1), (r#"}],\"usage\":1"#, 12)]
        {
            assert_eq!(read(&learned, &chunk(text, "")), Some((text.to_owned(), n_chars)));
        }
        let text = |text| format!(r#"{{"choices":[{{"text":"{text}","index":0,"logprobs":null}}]}}"#);
        assert_eq!(read(&text("a"), &text("bc")), Some(("bc".to_owned(), 2)));
    }

    #[test]
    fn padding_may_differ() {
        let padded = |padding: &str| chunk("x", &format!(r#","obfuscation":"{padding}""#));

        assert_eq!(read(&padded("abc"), &padded("")), Some(("x".to_owned(), 1)));
        assert_eq!(read(&padded(""), &padded("Zz9")), Some(("x".to_owned(), 1)));
        assert_eq!(read(&padded("abc"), &padded(r#"a\"b"#)), None);
        assert_eq!(read(&padded("abc"), &chunk("x", "")), None);
        assert_eq!(read(&chunk("x", ""), &padded("abc")), None);
    }

    #[test]
    fn what_is_not_plain_text_is_left_to_the_parser() {
        let learned = chunk("first", "");

        for text in ["a\"b", "a\nb", r"\u00e9", r"a\", r"\x"] {
            assert_eq!(read(&learned, &chunk(text, "")), None, "{text:?}");
        }
        for other in [
            chunk("x", "").replace("null}]", "\"stop\"}]"),
            chunk("x", "").replace("\"c\"", "\"d\""),
            chunk("x", "").replace("\"usage\":null", "\"usage\":{}"),
            format!("{} ", chunk("x", "")),
        ] {
            assert_eq!(read(&learned, &other), None, "{other}");
        }
    }

    #[test]
    fn a_chunk_that_says_more_than_text_teaches_nothing() {
        for learned in [
            chunk("x", "").replace("null}]", "\"stop\"}]"),
            chunk("x", "").replace("\"usage\":null", "\"usage\":{}"),
            chunk("x", "").replace("{\"content\"", "{\"role\":\"assistant\",\"content\""),
            chunk("x", "").replace("\"finish_reason\"", "\"logprobs\":{\"content\":[]},\"finish_reason\""),
            chunk("x", "").replace("\"x\"", "null"),
            r#"{"choices":[]}"#.to_owned(),
            "nonsense".to_owned(),
        ] {
            assert_eq!(read(&learned, &learned), None, "{learned}");
        }
    }

    #[test]
    fn lessons_come_to_an_end() {
        let mut shapes = Shapes::default();
        for _ in 0..MAX_LESSONS {
            shapes.learn(b"nonsense");
        }

        shapes.learn(chunk("x", "").as_bytes());

        assert!(shapes.read(chunk("x", "").as_bytes()).is_none());
    }
}
