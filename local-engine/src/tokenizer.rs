//! Text to tokens and back.
//!
//! Knows no chats (`chat` does) and no models.

mod text_out;
mod vocabulary;

pub use text_out::{TextOut, TextPiece};
pub use vocabulary::Vocabulary;
