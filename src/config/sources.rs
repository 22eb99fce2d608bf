//! The texts a configuration is read from: its own file, and beside it prices and splits.
//!
//! Reads files and understands nothing in them but the keys that name other files.
//!
//! Invariant: a file that is named has to be there; one that is not named may be missing.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{EMBEDDED_PRICES, Mistake};

/// The keys that name the files beside the configuration.
pub(super) const KEYS: [&str; 2] = ["prices_file", "splits_file"];

/// A text, and what people call it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) origin: String,
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct Sources {
    pub(super) main: Source,
    pub(super) prices: Source,
    pub(super) splits: Source,
    /// To be watched for changes, whether they are there already or not; the configuration comes first.
    pub(super) files: Vec<PathBuf>,
}

impl Sources {
    pub(super) fn of_texts(origin: &str, text: &str, prices: &str) -> Self {
        let source = |origin: String, text: &str| Source { origin, text: text.to_owned() };
        Self {
            main: source(origin.to_owned(), text),
            prices: source(format!("the prices of {origin}"), prices),
            splits: source(format!("the splits of {origin}"), ""),
            files: Vec::new(),
        }
    }

    /// Reads a configuration and what stands beside it.
    pub(super) fn read(path: &Path) -> Result<Self, Vec<Mistake>> {
        let main = read_file(path).map_err(|mistake| vec![mistake])?;
        let table: Table = main.text.parse().unwrap_or_default();
        let [prices, splits] = KEYS.map(|key| Beside::of(path, &table, key));
        // The configuration alone is enough: the prices compiled in hold until there are others.
        match (prices.read(EMBEDDED_PRICES), splits.read("")) {
            (Ok(prices_source), Ok(splits_source)) => Ok(Self {
                main,
                prices: prices_source,
                splits: splits_source,
                files: vec![path.to_owned(), prices.path, splits.path],
            }),
            (prices, splits) => Err([prices.err(), splits.err()].into_iter().flatten().collect()),
        }
    }
}

/// A file beside the configuration.
struct Beside {
    path: PathBuf,
    is_named: bool,
}

impl Beside {
    /// The file that `key` names, relative to the configuration; `prices_file` is `prices.toml` when not given.
    fn of(config: &Path, table: &Table, key: &str) -> Self {
        let named = table.get(key).and_then(Value::as_str);
        let default = key.replace("_file", ".toml");
        let path = config.parent().unwrap_or(Path::new(".")).join(named.unwrap_or(&default));
        Self { path, is_named: named.is_some() }
    }

    fn read(&self, otherwise: &str) -> Result<Source, Mistake> {
        if !self.is_named && !self.path.exists() {
            return Ok(Source { origin: self.path.display().to_string(), text: otherwise.to_owned() });
        }
        read_file(&self.path)
    }
}

fn read_file(path: &Path) -> Result<Source, Mistake> {
    let origin = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Source { origin, text }),
        Err(error) => {
            let problem = format!("cannot be read: {error}; give another file with --config");
            Err(Mistake { file: origin, key: String::new(), problem })
        }
    }
}
