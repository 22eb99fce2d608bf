//! The bytes that each token stands for, whichever way a tokenizer writes them.
//!
//! Two ways are known: byte-level BPE writes every byte as a printable letter (GPT-2's table; Llama 3, Qwen,
//! newer Mistral), and SentencePiece writes spaces as `▁` and single bytes as `<0x0A>` (Llama 2, Mistral).
//!
//! Strips no space from the beginning of a text: an answer continues one.

use serde_json::Value;
use tokenizers::Model;

use super::marks::Marks;

/// How a tokenizer writes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    ByteLevel,
    SentencePiece,
}

/// The bytes of every token, by its number; nothing for numbers that are none.
pub(super) fn of(library: &tokenizers::Tokenizer, marks: &Marks) -> Result<Vec<Box<[u8]>>, String> {
    let writing = writing_of(library)?;
    let letters = byte_of_letter();
    let words = library.get_model().get_vocab();
    let ids = words.values().copied().chain(marks.spellings().map(|(id, _)| id));
    let Some(last) = ids.max() else {
        return Err("it has no tokens".into());
    };
    // A number far beyond the count would only fill memory.
    if last as usize > 16 * (words.len() + 65_536) {
        return Err(format!("token number {last} of {} tokens", words.len()));
    }
    let mut tokens = vec![Box::default(); last as usize + 1];
    for (word, id) in &words {
        tokens[*id as usize] = match writing {
            Writing::ByteLevel => byte_level(word, &letters),
            Writing::SentencePiece => sentence_piece(word),
        };
    }
    for (id, spelling) in marks.spellings() {
        tokens[id as usize] = spelling.as_bytes().into();
    }
    Ok(tokens)
}

fn writing_of(library: &tokenizers::Tokenizer) -> Result<Writing, String> {
    let stages =
        serde_json::json!([library.get_decoder(), library.get_pre_tokenizer(), library.get_normalizer()]);
    if mentions(&stages, "ByteLevel") {
        Ok(Writing::ByteLevel)
    } else if mentions(&stages, "ByteFallback") || mentions(&stages, "Metaspace") || mentions(&stages, "▁")
    {
        Ok(Writing::SentencePiece)
    } else {
        let decoder = stages[0]["type"].as_str().unwrap_or("none");
        Err(format!("its decoder is {decoder}"))
    }
}

fn mentions(value: &Value, what: &str) -> bool {
    match value {
        Value::String(text) => text == what,
        Value::Array(items) => items.iter().any(|item| mentions(item, what)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, what)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// GPT-2's table, backwards: printable letters of Latin-1 are themselves, the other bytes come from 256 on.
fn byte_of_letter() -> Vec<Option<u8>> {
    let mut letters = vec![None; 256 + 68];
    let mut n_others = 0;
    for byte in 0..=255u8 {
        let letter = match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => usize::from(byte),
            0..=b' ' | 0x7f..=0xa0 | 0xad => {
                n_others += 1;
                255 + n_others
            }
        };
        letters[letter] = Some(byte);
    }
    letters
}

/// A letter that is not in the table stands for itself, as in tokens that were added to the model's words.
fn byte_level(word: &str, letters: &[Option<u8>]) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(word.len());
    for letter in word.chars() {
        match letters.get(letter as usize).copied().flatten() {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes.into()
}

fn sentence_piece(word: &str) -> Box<[u8]> {
    let hex = word.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).filter(|hex| hex.len() == 2);
    match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => Box::new([byte]),
        None => word.replace('▁', " ").into_bytes().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_letter() {
        let mut bytes: Vec<u8> = byte_of_letter().into_iter().flatten().collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn byte_level_words_are_read_back() {
        let letters = byte_of_letter();
        assert_eq!(&*byte_level("ĠHello", &letters), b" Hello");
        assert_eq!(&*byte_level("Ċĉ", &letters), b"\n\t");
        assert_eq!(&*byte_level("Ã©", &letters), "é".as_bytes());
        assert_eq!(&*byte_level("日", &letters), "日".as_bytes());
    }

    #[test]
    fn sentence_piece_words_are_read_back() {
        assert_eq!(&*sentence_piece("▁▁a▁b"), b"  a b");
        assert_eq!(&*sentence_piece("<0x0A>"), b"\n");
        for word in ["<0x0>", "<0xZZ>", "<0x0A", "<0x123>"] {
            assert_eq!(&*sentence_piece(word), word.as_bytes());
        }
    }
}
