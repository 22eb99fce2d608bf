//! Words that are secrets or accounts: keys of known providers, tokens, private keys, IBANs.
//!
//! Looks at one place of a text; the walk is `personal`'s.
//!
//! Invariant: nothing beyond [`MAX_BYTES`] bytes of that place is looked at.

use super::Personal;

const MAX_BYTES: usize = 128;
const PEM: &[u8] = b"-----BEGIN ";

/// How keys of providers begin, and the fewest letters and digits that follow.
const PREFIXES: [(&[u8], usize); 19] = [
    (b"sk-", 20),
    (b"sk_live_", 16),
    (b"sk_test_", 16),
    (b"rk_live_", 16),
    (b"pk_live_", 16),
    (b"AKIA", 16),
    (b"ASIA", 16),
    (b"AIza", 35),
    (b"ghp_", 36),
    (b"gho_", 36),
    (b"ghu_", 36),
    (b"ghs_", 36),
    (b"ghr_", 36),
    (b"github_pat_", 22),
    (b"glpat-", 20),
    (b"xoxb-", 20),
    (b"xoxp-", 20),
    (b"hf_", 30),
    (b"npm_", 36),
];

/// What begins here.
pub(super) fn at(bytes: &[u8], at: usize) -> Option<Personal> {
    let here = &bytes[at..bytes.len().min(at + MAX_BYTES)];
    let may_be_key = match here {
        [b's' | b'r' | b'p', b'k', ..] | [b'A', b'K' | b'S' | b'I', ..] => true,
        [b'g', b'h' | b'i' | b'l', ..] | [b'x', b'o', ..] | [b'h', b'f', ..] | [b'n', b'p', ..] => true,
        [b'e', b'y', b'J', ..] => return is_json_web_token(here).then_some(Personal::Secret),
        _ => false,
    };
    if may_be_key && PREFIXES.iter().any(|(prefix, n_least)| is_key(here, prefix, *n_least)) {
        return Some(Personal::Secret);
    }
    is_iban(here).then_some(Personal::Iban)
}

/// The head of a private key, as it stands in a file.
pub(super) fn is_private_key(here: &[u8]) -> bool {
    let Some(rest) = here.strip_prefix(PEM) else { return false };
    let label = &rest[..rest.len().min(40)];
    label.windows(11).any(|eleven| eleven == b"PRIVATE KEY")
}

/// Words in kebab case may begin like a key; a key has digits, too.
fn is_key(here: &[u8], prefix: &[u8], n_least: usize) -> bool {
    let Some(rest) = here.strip_prefix(prefix) else { return false };
    let n_rest = rest.iter().take(2 * n_least).take_while(is_of_token).count();
    let rest = &rest[..n_rest];
    n_rest >= n_least && rest.iter().any(u8::is_ascii_digit) && rest.iter().any(u8::is_ascii_alphabetic)
}

fn is_of_token(byte: &&u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-".contains(byte)
}

/// Parts in base64 with points between them, of which the first is a JSON object.
fn is_json_web_token(here: &[u8]) -> bool {
    let mut parts = here.split(|byte| *byte == b'.');
    let is_part = |part: Option<&[u8]>| {
        part.is_some_and(|part| part.len() >= 8 && part.iter().all(|byte| is_of_token(&byte)))
    };
    is_part(parts.next()) && parts.next().is_some_and(|part| part.len() >= 8 && is_of_token(&&part[0]))
}

/// Countries and how long their account numbers are.
const IBANS: [(&[u8; 2], usize); 42] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BR", 29),
    (b"CH", 21),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"EE", 20),
    (b"ES", 24),
    (b"FI", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GR", 27),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"MC", 27),
    (b"MT", 31),
    (b"NL", 18),
    (b"NO", 15),
    (b"PL", 28),
    (b"PT", 25),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"TR", 26),
];

fn is_iban(here: &[u8]) -> bool {
    let [first, second, b'0'..=b'9', b'0'..=b'9', ..] = here else { return false };
    let country = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
    let Some((_, len)) = IBANS.iter().find(|(known, _)| **known == country) else { return false };
    let mut number = Vec::with_capacity(*len);
    let mut is_spaced = false;
    for byte in here {
        match byte {
            b' ' if !is_spaced => is_spaced = true,
            byte if byte.is_ascii_alphanumeric() && number.len() < *len => {
                number.push(byte.to_ascii_uppercase());
                is_spaced = false;
            }
            byte if byte.is_ascii_alphanumeric() && !is_spaced => return false,
            _ => break,
        }
    }
    number.len() == *len && remainder(&number) == 1
}

/// Of the number with its first four signs put last, letters counting from ten, by 97.
fn remainder(number: &[u8]) -> u32 {
    let (head, tail) = number.split_at(4);
    tail.iter().chain(head).fold(0, |rest, sign| match sign {
        b'0'..=b'9' => (rest * 10 + u32::from(sign - b'0')) % 97,
        _ => (rest * 100 + u32::from(sign - b'A') + 10) % 97,
    })
}
