//! Finds ONNX Runtime, opens it once, and builds sessions that keep to one thread.
//!
//! Does not decide what to do without it: the caller starts anyway and says so.
//!
//! Invariants: a place the operator named is final, for falling past it would hide the mistake; the
//! library is checked before it is opened, because opening on first use panics when it is missing.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::session::Session;
use parking_lot::Mutex;

/// The environment of the process and the library it came from. ONNX Runtime allows one a process and
/// refuses a second even after the first is gone, so it cannot belong to a `Gateway`, of which tests make many.
static OPENED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Where to look for the library, in this order. A folder stands for the library inside it.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// `onnx.library` from the configuration. Final when given.
    pub configured: Option<PathBuf>,
    /// The value of `ORT_DYLIB_PATH`. Final when given.
    pub environment: Option<PathBuf>,
    /// The path of the running executable.
    pub executable: Option<PathBuf>,
    /// The folder the gateway keeps its files in.
    pub data_dir: Option<PathBuf>,
}

/// Why there is no runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    #[error("no ONNX Runtime library at {}; run scripts/fetch-onnxruntime.sh, or set onnx.library", listed(.looked_at))]
    Missing { looked_at: Vec<PathBuf> },
    #[error(
        "cannot use {} as ONNX Runtime: {why}; run scripts/fetch-onnxruntime.sh, or set onnx.library to version 1.{} or newer",
        .library.display(),
        ort::MINOR_VERSION
    )]
    Unusable { library: PathBuf, why: String },
    #[error("ONNX Runtime is already open from {}, so {} has no effect; restart to change it", .open.display(), .asked.display())]
    AlreadyOpen { open: PathBuf, asked: PathBuf },
}

/// Why a model has no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot load model {}: {why}", .model.display())]
pub struct SessionError {
    pub model: PathBuf,
    pub why: String,
}

/// The opened library. Cheap to clone; all clones share one environment.
#[derive(Debug, Clone)]
pub struct Runtime {
    library: PathBuf,
    environment: Environment,
}

impl Runtime {
    /// Opens the first library found, or returns the one already open.
    pub fn open(places: &Places) -> Result<Self, RuntimeError> {
        let library = find(places)?;
        let mut opened = OPENED.lock();
        if let Some((open, environment)) = opened.as_ref() {
            return if *open == library {
                Ok(Self { library, environment: environment.clone() })
            } else {
                Err(RuntimeError::AlreadyOpen { open: open.clone(), asked: library })
            };
        }
        let unusable = |why: String| RuntimeError::Unusable { library: library.clone(), why };
        let environment = ort::init_from(&library)
            .map_err(|error| unusable(error.to_string()))?
            .with_name("stiver")
            .with_telemetry(false)
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        *opened = Some((library.clone(), environment.clone()));
        Ok(Self { library, environment })
    }

    /// The file the runtime came from.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// For crates that build their own sessions.
    pub fn environment(&self) -> Environment {
        self.environment.clone()
    }

    /// A session on one thread that sleeps, rather than spins, between runs: the pool has the threads,
    /// and spinning ones cost ten times as much under contention.
    pub fn session(&self, model: &Path) -> Result<Session, SessionError> {
        let failed = |why: String| SessionError { model: model.to_path_buf(), why };
        let bytes = std::fs::read(model).map_err(|error| failed(error.to_string()))?;
        Session::builder(&self.environment)
            .map_err(|error| failed(error.to_string()))?
            .with_intra_threads(1)
            .map_err(|error| failed(error.to_string()))?
            .with_intra_op_spinning(false)
            .map_err(|error| failed(error.to_string()))?
            .commit_from_memory(&bytes)
            .map_err(|error| failed(error.to_string()))
    }
}

/// The canonical path of the first library that is there, whether or not it can be opened.
fn find(places: &Places) -> Result<PathBuf, RuntimeError> {
    let looked_at = candidates(places);
    let Some(found) = looked_at.iter().find(|path| path.is_file()) else {
        return Err(RuntimeError::Missing { looked_at });
    };
    let unusable = |why: String| RuntimeError::Unusable { library: found.clone(), why };
    let library = found.canonicalize().map_err(|error| unusable(error.to_string()))?;
    let size_bytes = library.metadata().map_err(|error| unusable(error.to_string()))?.len();
    if size_bytes == 0 { Err(unusable("the file is empty".to_owned())) } else { Ok(library) }
}

fn candidates(places: &Places) -> Vec<PathBuf> {
    let file = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}");
    if let Some(named) = places.configured.as_ref().or(places.environment.as_ref()) {
        return vec![if named.is_dir() { named.join(&file) } else { named.clone() }];
    }
    let mut paths = Vec::new();
    if let Some(folder) = places.executable.as_deref().and_then(Path::parent) {
        paths.push(folder.join(&file));
        // `cargo run` leaves the executable one folder below the one the script writes to.
        paths.extend(folder.parent().map(|above| above.join("onnxruntime").join(&file)));
    }
    if let Some(folder) = &places.data_dir {
        paths.push(folder.join("onnxruntime").join(&file));
        paths.push(folder.join(&file));
    }
    paths
}

fn listed(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "any place (none was given)".to_owned();
    }
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(path: &Path) -> Places {
        Places { configured: Some(path.to_path_buf()), ..Places::default() }
    }

    #[test]
    fn a_missing_library_names_every_place_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            executable: Some(folder.path().join("release/stiver")),
            data_dir: Some(folder.path().join("data")),
            ..Places::default()
        };

        let error = Runtime::open(&places).unwrap_err();

        let text = error.to_string();
        let file = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}");
        for place in ["release", "onnxruntime", "data/onnxruntime", "data"] {
            let path = folder.path().join(place).join(&file);
            assert!(text.contains(&path.display().to_string()), "{text} lacks {}", path.display());
        }
        assert!(text.contains("scripts/fetch-onnxruntime.sh"), "{text}");
    }

    #[test]
    fn nowhere_to_look_is_missing_too() {
        let error = Runtime::open(&Places::default()).unwrap_err();

        assert_eq!(error, RuntimeError::Missing { looked_at: vec![] });
    }

    #[test]
    fn an_empty_file_is_unusable() {
        let file = tempfile::NamedTempFile::new().unwrap();

        let error = Runtime::open(&configured(file.path())).unwrap_err();

        assert!(matches!(error, RuntimeError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains("empty"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(&path, "not a library").unwrap();

        let error = Runtime::open(&configured(&path)).unwrap_err();

        // Which of the two refusals it is depends on whether another test has opened the real one.
        assert!(!matches!(error, RuntimeError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("libonnxruntime.so"), "{error}");
    }

    #[test]
    fn a_configured_place_is_final() {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}");
        std::fs::write(folder.path().join(&file), "present").unwrap();
        let absent = folder.path().join("elsewhere.so");
        let places = Places { data_dir: Some(folder.path().to_path_buf()), ..configured(&absent) };

        let found = find(&places);

        assert_eq!(found, Err(RuntimeError::Missing { looked_at: vec![absent] }));
    }

    #[test]
    fn a_folder_stands_for_the_library_inside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}"));
        std::fs::write(&path, "present").unwrap();

        let found = find(&configured(folder.path()));

        assert_eq!(found, Ok(path.canonicalize().unwrap()));
    }

    #[test]
    fn opening_twice_shares_one_library() {
        let Some(first) = crate::onnx::testing::runtime() else { return };

        let second = crate::onnx::testing::runtime().unwrap();

        assert_eq!(first.library(), second.library());
    }

    #[derive(serde::Deserialize)]
    struct Golden {
        text: String,
        embedding: Vec<f32>,
    }

    /// The embedder is a model like any other to this module; that it loads here proves the environment can
    /// be shared with a crate that builds its own sessions.
    #[test]
    fn the_shipped_embedder_agrees_with_its_float_reference() {
        let Some(runtime) = crate::onnx::testing::runtime() else { return };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("router-models/embedder");
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let files = fastembed::TokenizerFiles {
            tokenizer_file: read("tokenizer.json"),
            config_file: read("config.json"),
            special_tokens_map_file: read("special_tokens_map.json"),
            tokenizer_config_file: read("tokenizer_config.json"),
        };
        let model = fastembed::UserDefinedEmbeddingModel::new(read("model.onnx"), files)
            .with_pooling(fastembed::Pooling::Mean);
        let options = fastembed::InitOptionsUserDefined::new()
            .with_environment(runtime.environment())
            .with_intra_threads(1)
            .with_session_config("session.intra_op.allow_spinning", "0");
        let golden: Vec<Golden> = serde_json::from_slice(&read("golden.json")).unwrap();
        let mut embedder = fastembed::TextEmbedding::try_new_from_user_defined(model, options).unwrap();

        // One at a time, as the gateway does: what shares a batch changes the rounding.
        for case in &golden {
            let ours = embedder.embed([&case.text], None).unwrap().remove(0);
            assert_eq!(ours.len(), case.embedding.len());
            let cosine: f32 = ours.iter().zip(&case.embedding).map(|(a, b)| a * b).sum();
            assert!(cosine > 0.995, "{cosine} for {}", case.text);
        }
    }

    #[test]
    fn a_missing_model_names_its_path() {
        let Some(runtime) = crate::onnx::testing::runtime() else { return };

        let error = runtime.session(Path::new("/nowhere/model.onnx")).unwrap_err();

        assert!(error.to_string().starts_with("cannot load model /nowhere/model.onnx"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_model_is_an_error() {
        let Some(runtime) = crate::onnx::testing::runtime() else { return };
        let file = tempfile::NamedTempFile::new().unwrap();

        let result = runtime.session(file.path());

        assert!(result.is_err());
    }
}
