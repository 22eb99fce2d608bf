//! Reads server-sent events out of bytes that arrive in pieces of any size.
//!
//! Does not look inside the data, and ignores `id` and `retry`: nobody here reconnects.
//!
//! Invariants: the same bytes give the same events however they are split; what is held back for an
//! unfinished event never exceeds the limit; data within one piece is a slice of it, not a copy.

use std::fmt;

use bytes::{Bytes, BytesMut};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One event, its data lines joined by line feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What its `event:` line says, where it has one.
    pub name: Option<Bytes>,
    pub data: Bytes,
}

/// An event outgrew the limit; what follows it cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {limit_bytes} bytes")]
pub struct EventTooLong {
    pub limit_bytes: usize,
}

/// Takes bytes as they come and gives the events they complete.
#[derive(Debug)]
pub struct Parser {
    limit_bytes: usize,
    /// A line whose end has not come yet.
    line: BytesMut,
    name: Option<Bytes>,
    data: Data,
    is_first_line: bool,
    /// The last byte was a carriage return, so that a line feed now belongs to it.
    after_return: bool,
}

impl Parser {
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            line: BytesMut::new(),
            name: None,
            data: Data::None,
            is_first_line: true,
            after_return: false,
        }
    }

    /// Appends the events that `piece` completes to `events`; those before an error are kept.
    pub fn feed(&mut self, mut piece: Bytes, events: &mut impl Extend<Event>) -> Result<(), EventTooLong> {
        while !piece.is_empty() {
            if std::mem::take(&mut self.after_return) && piece[0] == b'\n' {
                let _ = piece.split_to(1);
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', &piece) else {
                self.check_length(piece.len())?;
                self.line.extend_from_slice(&piece);
                return Ok(());
            };
            self.check_length(end)?;
            self.after_return = piece[end] == b'\r';
            let rest = piece.split_to(end);
            let _ = piece.split_to(1);
            let line = self.complete_line(rest);
            self.read_line(line, events);
        }
        Ok(())
    }

    /// The bytes ended: gives the event that lacked only its end, which careless servers leave out.
    pub fn finish(&mut self, events: &mut impl Extend<Event>) {
        let line = self.line.split().freeze();
        if !line.is_empty() {
            self.read_line(line, events);
        }
        self.read_line(Bytes::new(), events);
    }

    fn check_length(&self, more_bytes: usize) -> Result<(), EventTooLong> {
        let name_bytes = self.name.as_ref().map_or(0, Bytes::len);
        if self.line.len() + more_bytes + self.data.len() + name_bytes > self.limit_bytes {
            return Err(EventTooLong { limit_bytes: self.limit_bytes });
        }
        Ok(())
    }

    fn complete_line(&mut self, rest: Bytes) -> Bytes {
        if self.line.is_empty() {
            return rest;
        }
        self.line.extend_from_slice(&rest);
        self.line.split().freeze()
    }

    fn read_line(&mut self, mut line: Bytes, events: &mut impl Extend<Event>) {
        if std::mem::take(&mut self.is_first_line) && line.starts_with(BYTE_ORDER_MARK) {
            line = line.slice(BYTE_ORDER_MARK.len()..);
        }
        if line.is_empty() {
            let name = self.name.take();
            if let Some(data) = self.data.take() {
                events.extend(Some(Event { name, data }));
            }
            return;
        }
        if let Some(value) = value_of(&line, b"data") {
            self.data.push_line(value);
        } else if let Some(value) = value_of(&line, b"event") {
            self.name = Some(value).filter(|name| !name.is_empty());
        }
    }
}

/// The value of the line if it is of the field `name`; comments begin with a colon and match none.
fn value_of(line: &Bytes, name: &[u8]) -> Option<Bytes> {
    let rest = line.strip_prefix(name)?;
    match rest {
        [] => Some(Bytes::new()),
        [b':', b' ', ..] => Some(line.slice(name.len() + 2..)),
        [b':', ..] => Some(line.slice(name.len() + 1..)),
        [..] => None,
    }
}

/// The data of the event being read: nearly always one line, which is then not copied.
enum Data {
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(line) => line.len(),
            Self::Many(lines) => lines.len(),
        }
    }

    fn push_line(&mut self, line: Bytes) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(line),
            Self::One(first) => Self::Many(joined(BytesMut::from(&first[..]), &line)),
            Self::Many(lines) => Self::Many(joined(lines, &line)),
        };
    }

    fn take(&mut self) -> Option<Bytes> {
        match std::mem::replace(self, Self::None) {
            Self::None => None,
            Self::One(line) => Some(line),
            Self::Many(lines) => Some(lines.freeze()),
        }
    }
}

impl fmt::Debug for Data {
    /// The length alone: prompts and answers are not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

fn joined(mut lines: BytesMut, line: &[u8]) -> BytesMut {
    lines.extend_from_slice(b"\n");
    lines.extend_from_slice(line);
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]], limit_bytes: usize) -> (Vec<Event>, Result<(), EventTooLong>) {
        let mut parser = Parser::new(limit_bytes);
        let mut events = Vec::new();
        for piece in pieces {
            if let Err(error) = parser.feed(Bytes::copy_from_slice(piece), &mut events) {
                return (events, Err(error));
            }
        }
        parser.finish(&mut events);
        (events, Ok(()))
    }

    /// Expects `text` to hold events with these names and data.
    fn check(text: &str, expected: &[(Option<&str>, &str)]) {
        let (events, ended) = read(&[text.as_bytes()], 1_000);

        let found: Vec<(Option<&str>, &str)> = events
            .iter()
            .map(|event| {
                let name = event.name.as_deref().map(|name| std::str::from_utf8(name).unwrap());
                (name, std::str::from_utf8(&event.data).unwrap())
            })
            .collect();
        assert_eq!(ended, Ok(()));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn every_line_end_ends_a_line() {
        for end in ["\n", "\r\n", "\r"] {
            check(&format!("data: a{end}{end}data: b{end}{end}"), &[(None, "a"), (None, "b")]);
        }
    }

    #[test]
    fn fields_are_read_as_the_standard_says() {
        check("data:a\n\n", &[(None, "a")]);
        check("data:  a\n\n", &[(None, " a")]);
        check("data: a\ndata: b\n\n", &[(None, "a\nb")]);
        check("data\n\n", &[(None, "")]);
        check("data\ndata\n\n", &[(None, "\n")]);
        check("event: error\ndata: x\n\ndata: y\n\n", &[(Some("error"), "x"), (None, "y")]);
        check("event: lonely\n\ndata: y\n\n", &[(None, "y")]);
        check(": a comment\n\ndata: x\n\n", &[(None, "x")]);
        check("id: 3\nretry: 10\ndatum: no\ndata: x\n\n", &[(None, "x")]);
        check("\u{feff}data: x\n\n", &[(None, "x")]);
        check("data: \u{feff}x\n\n", &[(None, "\u{feff}x")]);
    }

    #[test]
    fn an_event_without_its_last_line_end_is_given_at_the_end() {
        check("data: a\n\ndata: [DONE]", &[(None, "a"), (None, "[DONE]")]);
        check("data: [DONE]\n", &[(None, "[DONE]")]);
        check("", &[]);
    }

    #[test]
    fn an_event_at_the_limit_is_read_and_one_byte_more_is_not() {
        let line = b"data: 0123456789";
        let text = [&line[..], b"\n\n"].concat();

        let (events, at) = read(&[&text], line.len());
        let (none, over) = read(&[&text], line.len() - 1);

        assert_eq!((events.len(), at), (1, Ok(())));
        assert_eq!((none.len(), over), (0, Err(EventTooLong { limit_bytes: line.len() - 1 })));
    }

    #[test]
    fn events_before_one_that_is_too_long_are_kept() {
        let (events, ended) = read(&[b"data: a\n\ndata: ", &[b'x'; 100]], 50);

        assert_eq!(events.len(), 1);
        assert_eq!(ended, Err(EventTooLong { limit_bytes: 50 }));
    }

    #[test]
    fn data_within_one_piece_is_not_copied() {
        let piece = Bytes::from_static(b"data: {\"a\":1}\n\n");
        let mut events = Vec::new();

        Parser::new(100).feed(piece.clone(), &mut events).unwrap();

        assert_eq!(events[0].data.as_ptr(), piece[6..].as_ptr());
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_events(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "data: ", "data:", "data", "event: ", "é", "x", "\n", "\r", "\r\n", "\n\n", ":", " ",
                    "{\"a\":1}", "\u{feff}", "id: 1", "[DONE]",
                ]),
                0..40,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            limit_bytes in 1_usize..60,
        ) {
            let text = parts.concat().into_bytes();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            places.push(0);
            places.push(text.len());
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();

            prop_assert_eq!(read(&pieces, limit_bytes), read(&[&text], limit_bytes));
        }
    }
}
