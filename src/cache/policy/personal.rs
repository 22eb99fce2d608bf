//! Whether a text holds personal data or a secret that has a form of its own.
//!
//! Knows e-mail addresses, phone numbers, payment cards, IBANs, US social security numbers and keys. Does not know
//! names, postal addresses or what a sentence means, and leaves IP addresses out: they look like versions, and most
//! that people ask about are nobody's. It is a net for what may not be shared, not a classifier of documents.
//!
//! Invariants: pure; a byte is looked at a bounded number of times, whatever the text; the checksum of a card or an
//! IBAN must hold, and a number must be written as its kind is written, so that prices, dates, versions and order
//! numbers pass.

mod numbers;
mod secrets;

use serde::Deserialize;

use crate::chat::{Message, Role};

/// Bytes of the last text that are looked at: some tens of thousands of words.
const MAX_LAST_BYTES: usize = 256 << 10;
/// Bytes of earlier messages looked at, the newest first.
const MAX_EARLIER_BYTES: usize = 64 << 10;
/// Of an e-mail address, before and after the `@`.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 255;
/// Endings of files that are named like addresses: `icon@2x.png`.
const FILE_ENDINGS: [&[u8]; 7] = [b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"css"];

/// What becomes of requests that hold personal data: `cache.personal_data`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PersonalData {
    /// They bypass the cache: nothing is looked up, nothing is kept.
    #[default]
    Bypass,
    /// Their answers are given to equal requests alone.
    Exact,
    /// They are not looked for.
    Allow,
}

/// What was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Personal {
    Email,
    Phone,
    Card,
    Iban,
    SocialSecurity,
    /// An API key, a token or a private key.
    Secret,
}

/// What users and tools said. Instructions are the operator's own, and what is personal in an answer of an assistant
/// was said to it before.
pub fn found_among(messages: &[Message]) -> Option<Personal> {
    let mut heard = messages.iter().rev().filter(|message| match message.role {
        Role::User | Role::Tool | Role::Function => true,
        Role::System | Role::Developer | Role::Assistant => false,
    });
    let last = heard.next()?;
    if let Some(found) = found_in(&last.text[..last.text.floor_char_boundary(MAX_LAST_BYTES)]) {
        return Some(found);
    }
    let mut left = MAX_EARLIER_BYTES;
    for message in heard {
        let end = message.text.floor_char_boundary(left);
        if let Some(found) = found_in(&message.text[..end]) {
            return Some(found);
        }
        left -= end;
        if end < message.text.len() {
            break;
        }
    }
    None
}

/// The first piece of personal data in a text.
pub fn found_in(text: &str) -> Option<Personal> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let found = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => secrets::at(bytes, at),
            b'0'..=b'9' | b'+' | b'(' => numbers::at(bytes, at),
            b'@' => is_email(bytes, at).then_some(Personal::Email),
            b'-' => secrets::is_private_key(&bytes[at..]).then_some(Personal::Secret),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
        // Nothing begins within a word or a number.
        let is_word = byte.is_ascii_alphanumeric();
        at += 1;
        while is_word && bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
            at += 1;
        }
    }
    None
}

fn is_email(bytes: &[u8], at: usize) -> bool {
    let is_local = |byte: &&u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(byte);
    let local = bytes[..at].iter().rev().take(MAX_LOCAL).take_while(is_local);
    if !local.clone().any(u8::is_ascii_alphanumeric) {
        return false;
    }
    let is_domain = |byte: &&u8| byte.is_ascii_alphanumeric() || b".-".contains(byte);
    let n_domain = bytes[at + 1..].iter().take(MAX_DOMAIN).take_while(is_domain).count();
    let (domain, rest) = bytes[at + 1..].split_at(n_domain);
    // `git@example.org:owner/name` is a place, not a person.
    if let [b':', next, ..] = rest
        && !next.is_ascii_whitespace()
    {
        return false;
    }
    let domain = domain.strip_suffix(b".").unwrap_or(domain);
    let Some(dot) = domain.iter().rposition(|byte| *byte == b'.') else { return false };
    let (host, top) = (&domain[..dot], &domain[dot + 1..]);
    let is_name = host.first().is_some_and(u8::is_ascii_alphanumeric);
    is_name && top.len() >= 2 && top.iter().all(u8::is_ascii_alphabetic) && !FILE_ENDINGS.contains(&top)
}

#[cfg(test)]
mod tests;
