//! Embeddings: unit vectors made from the text's bytes, as floats or base64.
//!
//! Similar texts are not near each other; the vectors only have to be stable.
//!
//! Invariants: equal texts give equal vectors; the base64 form holds the same floats, little-endian.

use serde_json::{Value, json};

use super::bill::Usage;
use super::request::Ask;

/// The width of OpenAI's small embedding model.
const N_DIMENSIONS: usize = 1536;

pub fn answer(ask: &Ask) -> (Value, Usage) {
    let n_dimensions = ask.n_dimensions.unwrap_or(N_DIMENSIONS);
    let data: Vec<Value> = ask
        .texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = vector(text, n_dimensions);
            let embedding = if ask.base64 { json!(base64(&le_bytes(&vector))) } else { json!(vector) };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let usage = Usage { prompt: ask.n_prompt_tokens, ..Usage::default() };
    let counts = json!({ "prompt_tokens": usage.prompt, "total_tokens": usage.prompt });
    (json!({ "object": "list", "data": data, "model": ask.model, "usage": counts }), usage)
}

fn vector(text: &str, n_dimensions: usize) -> Vec<f32> {
    // FNV-1a seeds an xorshift generator: stable, and no dependency.
    let seed = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut state = seed | 1;
    let raw: Vec<f32> = (0..n_dimensions)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
        })
        .collect();
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.into_iter().map(|x| x / length).collect()
}

fn le_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for nth in 0..4 {
            let sextet = (bits >> (18 - 6 * nth)) & 63;
            text.push(if nth > group.len() { '=' } else { char::from(ALPHABET[sextet as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_standard_says() {
        let encoded = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));

        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }

    #[test]
    fn vectors_are_stable_and_have_length_one() {
        let (a, b, c) = (vector("a", 64), vector("a", 64), vector("b", 64));

        assert_eq!(a, b);
        assert_ne!(a, c);
        assert!((a.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
    }
}
