//! What a call said, on its page: the messages of both sides, as text.
//!
//! Asks nothing and interprets nothing: roles and plain contents are set apart, all else is shown as it was sent.
//!
//! Invariant: whatever a prompt or an answer holds stands in the page as text.

use maud::{Markup, html};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::book::Book;
use super::format::moment;
use super::parts::card;
use crate::ledger::entry::Entry;
use crate::ledger::text::CallText;

/// The last card on the page of a call.
pub(super) fn card_of(book: &Book<'_>, call: &Entry, kept: Option<&CallText>) -> Markup {
    match kept {
        Some(text) => {
            let about =
                format!("Kept until {} UTC, because its team has it kept.", moment(text.delete_after_ms));
            card("What was asked and answered", &about, &both(text))
        }
        None if book.keeps_text(&call.team) => html! {
            p.about.text { "The text of this call was not kept, or its time is over." }
        },
        None => html! {
            p.about.text {
                "The text of calls is not kept. To keep a team's from now on: "
                code { "text = { keep = true, days = 7 }" } " in its " code { "[teams.NAME]" } "."
            }
        },
    }
}

fn both(text: &CallText) -> Markup {
    html! {
        div.said {
            h3 { "Asked" }
            @for message in read(&text.request, text.request_is_cut) { (message.show()) }
            @if text.request_is_cut { (cut_note()) }
            h3 { "Answered" }
            @if text.answer.is_empty() { p.about { "Nothing, or nothing that is text." } }
            @else { @for message in read(&text.answer, text.answer_is_cut) { (message.show()) } }
            @if text.answer_is_cut { (cut_note()) }
        }
    }
}

fn cut_note() -> Markup {
    html! { p.about { "The rest was longer than is kept." } }
}

/// One message, as far as it can be told apart.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    role: Option<String>,
    text: String,
    /// What else it holds, such as tool calls, as JSON.
    more: Vec<String>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    role: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    refusal: Option<String>,
}

impl Message {
    fn plain(text: &str) -> Self {
        Self { role: None, text: text.to_owned(), more: Vec::new() }
    }

    fn of(json: &RawValue) -> Self {
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(json.get()) else {
            return Self { role: None, text: content(json), more: Vec::new() };
        };
        let is_said = |raw: &&RawValue| !matches!(raw.get(), "null" | "[]");
        let said = fields.content.filter(is_said).map(content);
        let calls = [fields.tool_calls, fields.function_call].into_iter().flatten().filter(is_said);
        let text = said.or(fields.refusal).unwrap_or_default();
        Self { role: fields.role, text, more: calls.map(|raw| raw.get().to_owned()).collect() }
    }

    fn show(&self) -> Markup {
        html! {
            @if let Some(role) = &self.role { p.role { (role) } }
            @if !self.text.is_empty() { pre.code tabindex="0" { (self.text) } }
            @for json in &self.more { pre.code tabindex="0" { (json) } }
        }
    }
}

/// The messages of a side; the whole as it stands where it was cut, or is of another shape.
fn read(json: &str, is_cut: bool) -> Vec<Message> {
    if is_cut {
        return vec![Message::plain(json)];
    }
    match serde_json::from_str::<Vec<&RawValue>>(json) {
        Ok(messages) => messages.into_iter().map(Message::of).collect(),
        Err(_) => match serde_json::from_str::<String>(json) {
            Ok(text) => vec![Message::plain(&text)],
            Err(_) => vec![Message::plain(json)],
        },
    }
}

/// A content of one text, or whatever it is made of.
fn content(raw: &RawValue) -> String {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &[(Option<&str>, &str, &[&str])]) {
        let read: Vec<_> = read(json, false);
        let read: Vec<(Option<&str>, &str, Vec<&str>)> = read
            .iter()
            .map(|message| {
                let more = message.more.iter().map(String::as_str).collect();
                (message.role.as_deref(), message.text.as_str(), more)
            })
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(role, text, more)| (*role, *text, more.to_vec())).collect();

        assert_eq!(read, expected, "{json}");
    }

    #[test]
    fn messages_are_told_apart_and_anything_else_is_shown_as_it_is() {
        check(
            r#"[{"role":"system","content":"s\n"},{"role":"user","content":[{"type":"text","text":"a"}]}]"#,
            &[(Some("system"), "s\n", &[]), (Some("user"), r#"[{"type":"text","text":"a"}]"#, &[])],
        );
        check(
            r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"a"}]}]"#,
            &[(Some("assistant"), "", &[r#"[{"id":"a"}]"#])],
        );
        check(r#"["one","two"]"#, &[(None, "one", &[]), (None, "two", &[])]);
        check(r#""one""#, &[(None, "one", &[])]);
        check("[1,2]", &[(None, "1", &[]), (None, "2", &[])]);
        check("[{\"role\":", &[(None, "[{\"role\":", &[])]);
    }

    #[test]
    fn a_text_that_was_cut_is_shown_as_it_was_kept() {
        assert_eq!(read(r#"["whole"]"#, true), [Message::plain(r#"["whole"]"#)]);
    }
}
