//! Text to tokens and back.
//!
//! Knows no chats (`chat` does) and no models.
//!
//! Control tokens (the end of a turn, say) have spellings, and a user may write them. Whoever encodes says
//! how much of a text to believe: [`Tokenizer::encode`] believes nothing, so that `<|im_end|>` is seven
//! harmless tokens; [`Tokenizer::encode_markup`] believes all but what a [`Guard`] has broken.
//!
//! Invariants: [`Tokenizer::encode`] never gives a control token that the text merely spells. A text without
//! guards is encoded by [`Tokenizer::encode_markup`] as the tokenizer's own library does it.

mod guard;
mod marks;
mod text_out;
mod token_bytes;
mod vocabulary;

pub use guard::{Author, Guard};
pub use text_out::{TextOut, TextPiece};
pub use vocabulary::Vocabulary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    Token,
};

use crate::request::TokenId;
use marks::{Believed, Marks};

/// Why there is no tokenizer, or no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error(
        "{path}: {source}; a model needs its fast tokenizer there, as `save_pretrained` of transformers writes it"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: not a tokenizer: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error("{path}: {reason}; byte-level BPE and SentencePiece with `▁` for spaces are supported")]
    Unsupported { path: PathBuf, reason: String },
    #[error("the text cannot be encoded: {0}")]
    Encode(String),
}

/// A model's tokenizer.
pub struct Tokenizer {
    library: tokenizers::Tokenizer,
    marks: Marks,
    vocabulary: Arc<Vocabulary>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("n_tokens", &self.vocabulary.len()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model's directory.
    pub fn load(dir: &Path) -> Result<Self, TokenizerError> {
        let path = dir.join("tokenizer.json");
        let json = match std::fs::read(&path) {
            Ok(json) => json,
            Err(source) => return Err(TokenizerError::Read { path, source }),
        };
        let mut library = match tokenizers::Tokenizer::from_bytes(&json) {
            Ok(library) => library,
            Err(error) => return Err(TokenizerError::Parse { path, reason: error.to_string() }),
        };
        // A length that some training run was limited to is no property of the text.
        if let Err(error) = library.with_truncation(None) {
            return Err(TokenizerError::Parse { path, reason: error.to_string() });
        }
        library.with_padding(None);
        let marks = Marks::new(library.get_added_tokens_decoder());
        let tokens = match token_bytes::of(&library, &marks) {
            Ok(tokens) => tokens,
            Err(reason) => return Err(TokenizerError::Unsupported { path, reason }),
        };
        let vocabulary = Arc::new(Vocabulary::new(tokens, marks.textless()));
        Ok(Self { library, marks, vocabulary })
    }

    /// The tokens of somebody's text; `add_special` adds what the tokenizer adds to a prompt, as `<s>`.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<TokenId>, TokenizerError> {
        let pieces = self.pieces(text, Believed::Words, None)?;
        if !add_special {
            return Ok(ids(&pieces));
        }
        let encoding = pieces.into_encoding(None, 0, OffsetType::None).map_err(refused)?;
        let encoding = self.library.post_process(encoding, None, true).map_err(refused)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The tokens of a text whose spelled-out control tokens are meant, except where the guard broke them.
    pub fn encode_markup(&self, text: &str, guard: &Guard) -> Result<Vec<TokenId>, TokenizerError> {
        self.pieces(text, Believed::All, Some(guard.letter())).map(|pieces| ids(&pieces))
    }

    /// The tokens of a text that a grammar prescribes: marks of tool calls are meant, control tokens are not.
    pub(crate) fn encode_prescribed(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        self.pieces(text, Believed::Shown, None).map(|pieces| ids(&pieces))
    }

    /// A guard for texts that are to be put into markup.
    pub fn guard<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Guard {
        Guard::new(self.marks.clone(), texts)
    }

    /// The number of the token that is spelled so.
    pub fn token(&self, spelling: &str) -> Option<TokenId> {
        self.library.token_to_id(spelling)
    }

    pub fn vocabulary(&self) -> Arc<Vocabulary> {
        Arc::clone(&self.vocabulary)
    }

    /// The stages of a tokenizer, with our own search for added tokens in the place of the library's.
    fn pieces(
        &self,
        text: &str,
        believed: Believed,
        guard: Option<char>,
    ) -> Result<PreTokenizedString, TokenizerError> {
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, text| Ok(self.marks.split(&text, believed))).map_err(refused)?;
        let normalize = |piece: &mut NormalizedString| {
            if let Some(guard) = guard {
                piece.filter(|letter| letter != guard);
            }
            self.library.get_normalizer().map_or(Ok(()), |normalizer| normalizer.normalize(piece))
        };
        pieces.normalize(normalize).map_err(refused)?;
        if let Some(pre_tokenizer) = self.library.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(refused)?;
        }
        pieces.tokenize(|piece| self.tokenize_plain(piece.get())).map_err(refused)?;
        Ok(pieces)
    }

    /// A model may know a control token as a word, and find it in a text that spells it; then the text is
    /// cut into letters, which spell nothing.
    fn tokenize_plain(&self, piece: &str) -> tokenizers::Result<Vec<Token>> {
        let model = self.library.get_model();
        let tokens = model.tokenize(piece)?;
        if !tokens.iter().any(|token| self.marks.is_spelled(token.id, piece)) {
            return Ok(tokens);
        }
        let mut letters = Vec::new();
        for letter in piece.chars() {
            letters.extend(model.tokenize(letter.encode_utf8(&mut [0; 4]))?);
        }
        Ok(letters)
    }
}

fn ids(pieces: &PreTokenizedString) -> Vec<TokenId> {
    let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
    splits.iter().flat_map(|(_, _, tokens)| tokens.iter().flatten().map(|token| token.id)).collect()
}

fn refused(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Encode(error.to_string())
}
