//! An embedder that remembers, so that a stream can be asked in several orders for the price of one.
//!
//! Bounded by nothing but the stream.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::cache::embedder::{Embed, EmbedError};

/// The same embedder, asked for each text once.
pub fn remembering(embedder: Arc<dyn Embed>) -> Arc<dyn Embed> {
    Arc::new(Remembered { embedder, known: Mutex::default() })
}

struct Remembered {
    embedder: Arc<dyn Embed>,
    known: Mutex<HashMap<String, Arc<[f32]>>>,
}

impl Embed for Remembered {
    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
        async move {
            let known = self.known.lock().get(text).cloned();
            if let Some(vector) = known {
                return Ok(vector);
            }
            let vector = self.embedder.embed(text).await?;
            self.known.lock().insert(text.to_owned(), Arc::clone(&vector));
            Ok(vector)
        }
        .boxed()
    }

    fn id(&self) -> &str {
        self.embedder.id()
    }

    fn n_dims(&self) -> usize {
        self.embedder.n_dims()
    }
}
