//! What an answer says, as far as it has come: its messages or texts and nothing around them.
//!
//! For people to read later. An answer that a client can be given again is the [`Assembler`](super::Assembler)'s:
//! here an answer that is cut off or too long is still worth having.
//!
//! Invariants: holds little more than twice its limit; what it gives is a JSON array, or the beginning of one that
//! was too long; a text is cut between two characters.

use std::collections::BTreeMap;

use super::merged::{How, Merged, OVERHEAD_BYTES, Place, Room};
use super::{append_to, index_of};
use crate::chat::members::Members;
use crate::chat::shape::Shapes;

/// Names, indexes and brackets of a usual answer.
const SLACK_BYTES: usize = 64 << 10;

/// Listens to an answer, whole or in chunks.
#[derive(Debug)]
pub struct Transcript {
    limit_bytes: usize,
    room: Room,
    choices: BTreeMap<u32, Merged>,
    shapes: Shapes,
}

/// What was said, or the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// One message, or one text, a choice; empty where nothing was said.
    pub json: String,
    pub is_cut: bool,
}

impl Transcript {
    pub fn new(limit_bytes: usize) -> Self {
        let room = Room::of(2 * limit_bytes + SLACK_BYTES);
        Self { limit_bytes, room, choices: BTreeMap::new(), shapes: Shapes::default() }
    }

    /// Takes the next chunk of a stream. One that cannot be read says nothing.
    pub fn push(&mut self, chunk_json: &str) {
        if self.room.left_bytes.is_none() {
            return;
        }
        let added = self.shapes.read(chunk_json.as_bytes());
        let appended = added.and_then(|added| append_to(&mut self.choices, &mut self.room, &added));
        if appended.is_none() {
            self.merge(chunk_json.as_bytes());
            self.shapes.learn(chunk_json.as_bytes());
        }
    }

    /// Takes an answer that came at once.
    pub fn push_whole(&mut self, body: &[u8]) {
        self.merge(body);
    }

    pub fn said(&self) -> Said {
        if self.choices.is_empty() {
            return Said { json: String::new(), is_cut: self.room.left_bytes.is_none() };
        }
        let mut json = String::from("[");
        for (n, choice) in self.choices.values().enumerate() {
            if n > 0 {
                json.push(',');
            }
            match choice.get("message").or_else(|| choice.get("text")) {
                Some(part) => part.write(&mut json),
                None => json.push_str("null"),
            }
        }
        json.push(']');
        let is_cut = cut(&mut json, self.limit_bytes) || self.room.left_bytes.is_none();
        Said { json, is_cut }
    }

    fn merge(&mut self, json: &[u8]) -> Option<()> {
        let answer = Members::parse(json).ok()?;
        let choices: Vec<Members<'_>> = serde_json::from_str(answer.get("choices")?.get()).ok()?;
        for (nth, choice) in (0..).zip(&choices) {
            let idx = if choice.get("index").is_some() { index_of(choice)? } else { nth };
            let room = &mut self.room;
            let merged = self.choices.entry(idx).or_insert_with(|| {
                room.take(OVERHEAD_BYTES);
                Merged::default()
            });
            for (name, value) in choice.iter() {
                match name {
                    "delta" => merged.merge("message", value, How::Object(Place::Message, 0), room),
                    "message" => merged.merge(name, value, How::Last, room),
                    "text" => merged.merge(name, value, How::Text, room),
                    // Log-probabilities are many times longer than what they are of.
                    _ => {}
                }
            }
        }
        Some(())
    }
}

/// Cuts a text to so many bytes, between two characters; whether anything went.
pub fn cut(text: &mut String, limit_bytes: usize) -> bool {
    let is_longer = text.len() > limit_bytes;
    text.truncate(text.floor_char_boundary(limit_bytes));
    is_longer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(limit_bytes: usize, chunks: &[serde_json::Value]) -> Said {
        let mut transcript = Transcript::new(limit_bytes);
        for chunk in chunks {
            transcript.push(&chunk.to_string());
        }
        transcript.said()
    }

    fn content(text: &str) -> serde_json::Value {
        json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
    }

    #[test]
    fn a_stream_that_breaks_off_has_said_what_came() {
        let role = json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]});

        let said = said(1_000, &[role, content("Good "), content("mor\n\"")]);

        assert_eq!(said.json, r#"[{"role":"assistant","content":"Good mor\n\""}]"#);
        assert!(!said.is_cut);
    }

    #[test]
    fn tool_calls_are_said_and_log_probabilities_are_not() {
        let call = |arguments: &str| {
            let call = json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}});
            json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "logprobs": {"content": [1]}}]})
        };

        let said = said(1_000, &[call("{\"x\""), call(":1}")]);

        let calls: serde_json::Value = serde_json::from_str(&said.json).unwrap();
        assert_eq!(calls[0]["tool_calls"][0]["function"]["arguments"], "{\"x\":1}");
        assert!(!said.json.contains("logprobs"), "{}", said.json);
    }

    #[test]
    fn a_whole_answer_says_the_messages_or_texts_of_its_choices() {
        for (body, expected) in [
            (r#"{"choices":[{"message":{"content":"a"}}]}"#, r#"[{"content":"a"}]"#),
            (r#"{"choices":[{"index":1,"text":"b"},{"index":0,"text":"a"}]}"#, r#"["a","b"]"#),
            (r#"{"data":[{"embedding":[1,2]}]}"#, ""),
            ("<html>", ""),
        ] {
            let mut transcript = Transcript::new(1_000);
            transcript.push_whole(body.as_bytes());

            assert_eq!(transcript.said(), Said { json: expected.to_owned(), is_cut: false });
        }
    }

    #[test]
    fn a_text_is_cut_at_its_limit_and_between_characters() {
        for (limit, expected, is_cut) in [(6, "añ€", false), (5, "añ", true), (3, "añ", true), (2, "a", true)]
        {
            let mut text = "añ€".to_owned();

            assert_eq!((cut(&mut text, limit), text.as_str()), (is_cut, expected), "at {limit}");
        }
    }

    #[test]
    fn an_answer_is_whole_up_to_the_limit_and_cut_above_it() {
        let whole = said(1_000, &[content("x".repeat(50).as_str())]).json;

        let at = said(whole.len(), &[content(&"x".repeat(50))]);
        let above = said(whole.len() - 1, &[content(&"x".repeat(50))]);

        assert_eq!(at, Said { json: whole.clone(), is_cut: false });
        assert_eq!(above, Said { json: whole[..whole.len() - 1].to_owned(), is_cut: true });
    }

    #[test]
    fn what_comes_after_the_room_is_full_is_not_held() {
        let mut transcript = Transcript::new(100);
        let piece = content(&"y".repeat(1_000)).to_string();
        for _ in 0..10_000 {
            transcript.push(&piece);
        }

        let held: usize = transcript.choices.values().map(|choice| format!("{choice:?}").len()).sum();

        assert!(held < 2 * SLACK_BYTES, "{held} bytes are held");
        let said = transcript.said();
        assert_eq!((said.json.len(), said.is_cut), (100, true));
    }
}
