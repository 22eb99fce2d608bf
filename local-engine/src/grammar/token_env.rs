//! A model's tokens as llguidance wants them: a trie of bytes, and a way to cut forced text into tokens.
//!
//! Control tokens are in the trie under a mark that no text has, so that no grammar's text allows them.

use std::sync::Arc;

use toktrie::{TokRxInfo, TokTrie, TokenizerEnv};

use super::GrammarError;
use crate::request::TokenId;
use crate::tokenizer::{Tokenizer, Vocabulary};

/// What the trie's nodes can hold.
const MOST_BYTES: usize = 1000;
const MOST_TOKENS: usize = 1 << 21;

/// Put before a forced text, so that a tokenizer that begins texts with a space does so before this.
const SHIELD: &str = "\u{2}";

pub(super) struct TokenEnv {
    trie: TokTrie,
    tokenizer: Option<Arc<Tokenizer>>,
    needs_shield: bool,
}

impl TokenEnv {
    /// Without a tokenizer there are masks, but no forced tokens: nobody knows how the model would cut them.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        tokenizer: Option<Arc<Tokenizer>>,
        eos: &[TokenId],
    ) -> Result<Self, GrammarError> {
        let n_tokens = vocabulary.len();
        if n_tokens == 0 || n_tokens > MOST_TOKENS {
            return Err(GrammarError::Invalid(format!(
                "a vocabulary of {n_tokens} tokens; 1 to {MOST_TOKENS} can be masked"
            )));
        }
        if let Some(outside) = eos.iter().find(|eos| **eos as usize >= n_tokens) {
            return Err(GrammarError::Invalid(format!("the end token {outside} is not below {n_tokens}")));
        }
        let words: Vec<Vec<u8>> =
            (0..n_tokens as TokenId).map(|token| word(vocabulary, eos, token)).collect();
        let info = TokRxInfo::new(n_tokens as u32, eos.first().copied().unwrap_or(toktrie::INVALID_TOKEN));
        let trie = TokTrie::from(&info, &words);
        let trie = if eos.is_empty() { trie } else { trie.with_eos_tokens(eos) };
        let mut env = Self { trie, tokenizer, needs_shield: false };
        env.needs_shield = env.cut("a").is_some_and(|tokens| env.trie.decode_raw(&tokens) != b"a");
        Ok(env)
    }

    fn cut(&self, text: &str) -> Option<Vec<TokenId>> {
        self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.encode_prescribed(text).ok())
    }

    /// The model's own tokens for a text, or the longest ones if it would change the text.
    fn cut_exactly(&self, text: &str) -> Vec<TokenId> {
        let shielded = || {
            let tokens = self.cut(&format!("{SHIELD}{text}"))?;
            // Whatever stands for the shield ends at a token's end, or the tokens are of no use.
            let shield_end = (1..=tokens.len())
                .find(|n| self.trie.decode_raw(&tokens[..*n]).ends_with(SHIELD.as_bytes()))?;
            Some(tokens[shield_end..].to_vec())
        };
        let tokens = if self.needs_shield { shielded() } else { self.cut(text) };
        let exact = tokens.filter(|tokens| self.trie.decode_raw(tokens) == text.as_bytes());
        exact.unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
    }
}

fn word(vocabulary: &Vocabulary, eos: &[TokenId], token: TokenId) -> Vec<u8> {
    let bytes = vocabulary.bytes(token).unwrap_or_default();
    if bytes.is_empty() || bytes.len() > MOST_BYTES {
        Vec::new()
    } else if vocabulary.is_special(token) || eos.contains(&token) {
        [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
    } else {
        bytes.to_vec()
    }
}

impl TokenizerEnv for TokenEnv {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.cut_exactly(text))
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.tokenizer.is_some()
    }
}
