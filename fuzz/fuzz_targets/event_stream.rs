//! However the bytes of a stream are split, they give the same events.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use stiver::upstream::event_stream::{Event, EventTooLong, Parser};

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

fuzz_target!(|input: (u8, Vec<Vec<u8>>)| {
    let (limit, pieces) = input;
    let limit_bytes = usize::from(limit) + 1;
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();

    let whole = pieces.concat();

    assert_eq!(read(&pieces, limit_bytes), read(&[&whole], limit_bytes));
    for event in read(&[&whole], limit_bytes).0 {
        // Whatever an event holds, reading it must not panic.
        let _ = stiver::upstream::openai::from_event(&event.data);
    }
});
