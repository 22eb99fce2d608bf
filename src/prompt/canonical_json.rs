//! Feeds a JSON value into a hash so that key order and white space do not count.
//!
//! Numbers are taken as they are written: `1` and `1.0` are told apart, which costs a hit, never
//! a wrong one.
//!
//! Invariant: recursion ends at [`MAX_DEPTH`]; deeper values are hashed as the bytes they came in.

use serde_json::value::RawValue;

use crate::chat::Fields;

const MAX_DEPTH: usize = 64;

/// Writes `raw` into `hasher` in canonical form; every part is framed by its kind and length.
pub(super) fn hash_json(hasher: &mut blake3::Hasher, raw: &RawValue) {
    hash_value(hasher, raw, 0);
}

/// Writes a length-framed piece, so that neighbouring pieces can never run into each other.
pub(super) fn hash_bytes(hasher: &mut blake3::Hasher, kind: u8, bytes: &[u8]) {
    hasher.update(&[kind]);
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn hash_value(hasher: &mut blake3::Hasher, raw: &RawValue, depth: usize) {
    let text = raw.get();
    if depth < MAX_DEPTH {
        match text.as_bytes().first() {
            Some(b'{') => {
                if let Ok(fields) = Fields::parse(text.as_bytes()) {
                    return hash_object(hasher, &fields, depth);
                }
            }
            Some(b'[') => {
                if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
                    hash_bytes(hasher, b'[', &(items.len() as u64).to_le_bytes());
                    return items.into_iter().for_each(|item| hash_value(hasher, item, depth + 1));
                }
            }
            Some(b'"') => {
                if let Ok(string) = serde_json::from_str::<String>(text) {
                    return hash_bytes(hasher, b's', string.as_bytes());
                }
            }
            Some(_) | None => {}
        }
    }
    hash_bytes(hasher, b'r', text.as_bytes());
}

fn hash_object(hasher: &mut blake3::Hasher, fields: &Fields, depth: usize) {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    hash_bytes(hasher, b'{', &(sorted.len() as u64).to_le_bytes());
    for (key, value) in sorted {
        hash_bytes(hasher, b'k', key.as_bytes());
        hash_value(hasher, value, depth + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(json: &str) -> blake3::Hash {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        let mut hasher = blake3::Hasher::new();
        hash_json(&mut hasher, &raw);
        hasher.finalize()
    }

    #[test]
    fn key_order_space_and_escapes_do_not_count() {
        assert_eq!(hash(r#"{"a":1,"b":[{"x":"é"}]}"#), hash(r#"{ "b" : [ {"x":"\u00e9"} ], "a" : 1 }"#));
    }

    #[test]
    fn values_order_and_nesting_count() {
        let all =
            [r#"[1,2]"#, r#"[2,1]"#, r#"[[1],2]"#, r#"["1",2]"#, r#"{"a":"b"}"#, r#"{"b":"a"}"#, "1", "1.0"];
        for (idx, one) in all.iter().enumerate() {
            for other in &all[idx + 1..] {
                assert_ne!(hash(one), hash(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn a_very_deep_value_is_hashed_without_running_out_of_stack() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));

        assert_eq!(hash(&deep), hash(&deep));
    }
}
