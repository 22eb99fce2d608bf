//! The two changes we make to an answer on its way to the client: its cost is added to the usage, and
//! usage that was not asked for is left out.
//!
//! Everything else stays byte for byte; what cannot be read passes as it is.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::members::{Members, is_null, place_in};
use crate::money::NanoUsd;

/// A whole answer with `usage.cost` in dollars; as it is where there is no cost or no usage to add it to.
pub fn whole_with_cost(body: &Bytes, cost: Option<NanoUsd>) -> Bytes {
    cost.and_then(|cost| with_cost(body, cost)).unwrap_or_else(|| body.clone())
}

/// One chunk of a stream as the client shall see it; `None` when it shall not.
///
/// A client that did not ask for usage gets none, as if the upstream had not been asked either.
/// One that did gets `cost` added to the chunk that carries the usage.
pub fn chunk_for_client(data: &Bytes, wants_usage: bool, cost: Option<NanoUsd>) -> Option<Bytes> {
    if wants_usage {
        return Some(whole_with_cost(data, cost));
    }
    if let Some((before, after)) = around_last_null(data) {
        return Some([before, after].concat().into());
    }
    if memchr::memmem::find(data, b"usage\"").is_none() {
        return Some(data.clone());
    }
    without_usage(data)
}

fn with_cost(body: &[u8], cost: NanoUsd) -> Option<Bytes> {
    memchr::memmem::find(body, b"\"usage\"")?;
    let usage = Members::parse(body).ok()?.get("usage").filter(|usage| !is_null(usage))?;
    let members = Members::of(usage)?;
    let cost = cost.to_string();
    let (place, text) = match members.get("cost") {
        Some(theirs) => (place_in(body, theirs.get()), cost),
        None => {
            let end = place_in(body, usage.get()).end - 1;
            let comma = if members.iter().next().is_some() { "," } else { "" };
            (end..end, format!(r#"{comma}"cost":{cost}"#))
        }
    };
    Some([&body[..place.start], text.as_bytes(), &body[place.end..]].concat().into())
}

/// What nearly every chunk of OpenAI's looks like: a null at the end, or before the padding. What follows
/// it is the outermost object's, because it closes nothing else.
fn around_last_null(data: &[u8]) -> Option<(&[u8], &[u8])> {
    const NULL: &[u8] = br#","usage":null"#;
    if let Some(before) = data.strip_suffix(b"}").and_then(|rest| rest.strip_suffix(NULL)) {
        return Some((before, b"}"));
    }
    let idx = memchr::memmem::rfind(data, NULL)?;
    let after = &data[idx + NULL.len()..];
    let padding = after.strip_prefix(br#","obfuscation":""#).and_then(|rest| rest.strip_suffix(br#""}"#));
    let is_last = padding.is_some_and(|text| text.iter().all(u8::is_ascii_alphanumeric));
    is_last.then_some((&data[..idx], after))
}

fn without_usage(data: &Bytes) -> Option<Bytes> {
    let Ok(members) = Members::parse(data) else { return Some(data.clone()) };
    let Some(usage) = members.get("usage") else { return Some(data.clone()) };
    if !is_null(usage) && members.get("choices").is_none_or(is_empty) {
        return None;
    }
    let Some(name) = members.place_of_name(data, "usage") else { return Some(data.clone()) };
    let (mut start, mut end) = (name.start - 1, place_in(data, usage.get()).end);
    let (before, after) = (data[..start].trim_ascii_end(), data[end..].trim_ascii_start());
    // One of the commas beside it goes too.
    if let Some(rest) = after.strip_prefix(b",") {
        end = data.len() - rest.len();
    } else if let Some(rest) = before.strip_suffix(b",") {
        start = rest.len();
    }
    Some([&data[..start], &data[end..]].concat().into())
}

/// Whether it is `null` or an array of nothing.
fn is_empty(choices: &RawValue) -> bool {
    let inner = choices.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    is_null(choices) || inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Option<NanoUsd> = Some(NanoUsd::new(31));

    fn whole(body: &str) -> String {
        String::from_utf8(whole_with_cost(&Bytes::from(body.to_owned()), COST).to_vec()).unwrap()
    }

    fn chunk(data: &str, wants_usage: bool) -> Option<String> {
        chunk_for_client(&Bytes::from(data.to_owned()), wants_usage, COST)
            .map(|data| String::from_utf8(data.to_vec()).unwrap())
    }

    #[test]
    fn the_cost_is_added_and_nothing_else_changes() {
        for (body, expected) in [
            (
                r#"{ "a":1.0, "usage": {"prompt_tokens":1 }, "z":"\u00e9" }"#,
                r#"{ "a":1.0, "usage": {"prompt_tokens":1 ,"cost":0.000000031}, "z":"\u00e9" }"#,
            ),
            (r#"{"usage":{}}"#, r#"{"usage":{"cost":0.000000031}}"#),
            (r#"{"usage":{"cost":9.5e1,"x":2}}"#, r#"{"usage":{"cost":0.000000031,"x":2}}"#),
        ] {
            assert_eq!(whole(body), expected);
        }
    }

    #[test]
    fn a_body_without_usage_or_cost_stays_as_it_is() {
        for body in
            [r#"{"a":1}"#, r#"{"usage":null}"#, r#"{"usage":3}"#, r#"{"a":{"usage":{}}}"#, "<\"usage\">"]
        {
            assert_eq!(whole(body), body);
        }
        let body = Bytes::from_static(br#"{"usage":{}}"#);
        assert_eq!(whole_with_cost(&body, None).as_ptr(), body.as_ptr());
    }

    #[test]
    fn a_cost_is_written_exactly() {
        let body = Bytes::from_static(br#"{"usage":{}}"#);
        for (nanos, expected) in
            [(1, "0.000000001"), (1_250_000_000, "1.25"), (0, "0.00"), (-5, "-0.000000005")]
        {
            let priced = whole_with_cost(&body, Some(NanoUsd::new(nanos)));
            assert_eq!(priced, format!(r#"{{"usage":{{"cost":{expected}}}}}"#));
            serde_json::from_slice::<serde_json::Value>(&priced).unwrap();
        }
    }

    #[test]
    fn usage_that_was_not_asked_for_is_left_out() {
        for (data, expected) in [
            (r#"{"choices":[{}],"usage":null}"#, Some(r#"{"choices":[{}]}"#)),
            (
                r#"{"choices":[{}],"usage":null,"obfuscation":"x"}"#,
                Some(r#"{"choices":[{}],"obfuscation":"x"}"#),
            ),
            (
                r#"{"choices":[{}],"usage":null,"obfuscation":"\"}"}"#,
                Some(r#"{"choices":[{}],"obfuscation":"\"}"}"#),
            ),
            (r#"{"usage":{"a":[1]} , "choices":[{}]}"#, Some(r#"{ "choices":[{}]}"#)),
            (r#"{"choices":[{}] , "usage":{"a":1}}"#, Some(r#"{"choices":[{}] }"#)),
            (r#"{"usage":null}"#, Some("{}")),
            (r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, None),
            (r#"{"choices":[ ],"usage":{"prompt_tokens":1}}"#, None),
            (r#"{"usage":{"prompt_tokens":1}}"#, None),
            (
                r#"{"choices":[],"prompt_filter_results":[],"usage":null}"#,
                Some(r#"{"choices":[],"prompt_filter_results":[]}"#),
            ),
        ] {
            assert_eq!(chunk(data, false).as_deref(), expected, "{data}");
        }
    }

    #[test]
    fn usage_deeper_down_or_in_text_is_not_touched() {
        for data in [
            r#"{"choices":[{"delta":{"content":"\"usage\":null}"}}]}"#,
            r#"{"choices":[{"usage":null}]}"#,
            r#"{"usages":1}"#,
            "not \"usage\" json",
        ] {
            assert_eq!(chunk(data, false).as_deref(), Some(data));
        }
    }

    #[test]
    fn a_client_that_asked_gets_the_cost_where_the_usage_is() {
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":1}}"#;
        let priced = r#"{"choices":[],"usage":{"prompt_tokens":1,"cost":0.000000031}}"#;

        assert_eq!(chunk(usage, true).as_deref(), Some(priced));
        for data in [r#"{"choices":[{}],"usage":null}"#, r#"{"choices":[{}]}"#] {
            assert_eq!(chunk(data, true).as_deref(), Some(data));
        }
    }

    #[test]
    fn a_chunk_without_usage_is_not_copied() {
        let data = Bytes::from_static(br#"{"choices":[{"delta":{"content":"x"}}]}"#);

        assert_eq!(chunk_for_client(&data, false, None).unwrap().as_ptr(), data.as_ptr());
        assert_eq!(chunk_for_client(&data, true, COST).unwrap().as_ptr(), data.as_ptr());
    }
}
