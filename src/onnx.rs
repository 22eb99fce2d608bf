//! Runs ONNX models: one shared runtime, and models behind bounded pools of threads.
//!
//! Knows nothing of what a model is for, of tokens or of scores, and never reads the environment:
//! every place to look in is handed in. It does not download the runtime.
//!
//! Invariants: a missing or unusable library is an error, never a panic; a process opens at most one
//! library; inference never runs on a thread of the async runtime.

pub mod pool;
pub mod runtime;

pub use pool::{Pool, PoolError, PoolSize};
pub use runtime::{Places, Runtime, RuntimeError};

use std::path::PathBuf;

use serde::Deserialize;

/// Where the ONNX Runtime library is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnnxConfig {
    /// Path of the library, or of the folder that holds it. Default: `ORT_DYLIB_PATH`, then beside the
    /// executable, then the data folder.
    pub library: Option<PathBuf>,
}

#[cfg(test)]
pub(crate) mod testing {
    use std::path::Path;

    use super::{Places, Runtime};

    /// The runtime that `scripts/fetch-onnxruntime.sh` laid down, or nothing and a printed reason.
    #[expect(clippy::print_stderr, reason = "a skipped test has to say so")]
    pub(crate) fn runtime() -> Option<Runtime> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onnxruntime");
        let places = Places { configured: Some(folder), ..Places::default() };
        match Runtime::open(&places) {
            Ok(runtime) => Some(runtime),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }
}
