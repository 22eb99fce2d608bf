//! Token counts where no upstream has said them yet: a likely one and a safe upper bound.
//!
//! No tokenizer on purpose: every upstream has its own, and both figures are only used before an
//! answer's usage is known or where it never comes.

use crate::chat::Request;

/// English prose in today's byte-pair vocabularies: about four characters a token.
const CHARS_PER_TOKEN: usize = 4;

/// What role markers and separators add to a message in known chat formats, rounded up.
const TOKENS_PER_MESSAGE: u64 = 8;

/// The most that is documented for one image, by the model that counts tiles dearest, is about half of this.
const TOKENS_PER_MEDIA: u64 = 50_000;

/// A likely count for text of `n_chars` characters; at least 1 for any text at all.
pub fn estimate_tokens(n_chars: usize) -> u64 {
    n_chars.div_ceil(CHARS_PER_TOKEN) as u64
}

/// A count no tokenizer over bytes can exceed: one token a byte, and the message frames.
pub fn most_input_tokens(request: &Request) -> u64 {
    let n_bytes: usize = request.fields.iter().map(|(key, value)| key.len() + value.get().len()).sum();
    let n_messages = request.messages.len() as u64;
    let n_media = request.messages.iter().map(|message| message.n_media as u64).sum::<u64>();
    n_bytes as u64 + n_messages * TOKENS_PER_MESSAGE + n_media * TOKENS_PER_MEDIA
}
