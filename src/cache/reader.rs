//! Reads two texts together and says how likely one answer serves both.
//!
//! Does not decide what is served.

use futures_util::future::BoxFuture;

pub trait Reader: Send + Sync {
    fn p_same<'a>(&'a self, new: &'a str, cached: &'a str) -> BoxFuture<'a, Result<f64, String>>;
}
