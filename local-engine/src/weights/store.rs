//! The tensors of a checkpoint, wherever they lie: in one file, or in shards that an index lists.
//!
//! Knows no model: which tensors there have to be is for `checkpoint`.
//!
//! Invariants: every name leads to a file that has it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::safetensors::SafetensorsFile;
use super::{Tensor, WeightsError};

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

#[derive(Debug)]
pub struct TensorStore {
    dir: PathBuf,
    files: Vec<SafetensorsFile>,
    file_of: HashMap<String, usize>,
}

impl TensorStore {
    /// `model.safetensors`, or what `model.safetensors.index.json` lists.
    pub fn open(dir: &Path) -> Result<Self, WeightsError> {
        if dir.join(WHOLE).exists() {
            return Self::of_files(dir, vec![SafetensorsFile::open(&dir.join(WHOLE))?]);
        }
        let path = dir.join(INDEX);
        match std::fs::read(&path) {
            Ok(index) => Self::of_index(dir, &path, &index),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let what = format!("holds neither `{WHOLE}` nor `{INDEX}`");
                Err(WeightsError::File { path: dir.to_owned(), what })
            }
            Err(source) => Err(WeightsError::Read { path, source }),
        }
    }

    /// All tensors of some files.
    pub fn of_files(dir: &Path, files: Vec<SafetensorsFile>) -> Result<Self, WeightsError> {
        let mut file_of = HashMap::new();
        for (file_idx, file) in files.iter().enumerate() {
            for name in file.names() {
                if file_of.insert(name.to_owned(), file_idx).is_some() {
                    let what = "is in another file, too".to_owned();
                    return Err(WeightsError::Tensor {
                        path: file.path().to_owned(),
                        tensor: name.to_owned(),
                        what,
                    });
                }
            }
        }
        Ok(Self { dir: dir.to_owned(), files, file_of })
    }

    fn of_index(dir: &Path, path: &Path, index: &[u8]) -> Result<Self, WeightsError> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let wrong = |what: String| WeightsError::File { path: path.to_owned(), what };
        let Index { weight_map } = serde_json::from_slice(index)
            .map_err(|error| wrong(format!("is not what an index of shards is: {error}")))?;
        let mut files: Vec<SafetensorsFile> = Vec::new();
        let mut idx_of = HashMap::new();
        let mut file_of = HashMap::new();
        for (name, shard) in weight_map {
            let file_idx = match idx_of.get(&shard) {
                Some(file_idx) => *file_idx,
                None => {
                    // A shard elsewhere would let a downloaded index open any file.
                    if Path::new(&shard).file_name() != Some(shard.as_ref()) {
                        return Err(wrong(format!("shard `{shard}` is not a file beside the index")));
                    }
                    files.push(SafetensorsFile::open(&dir.join(&shard))?);
                    idx_of.insert(shard, files.len() - 1);
                    files.len() - 1
                }
            };
            let file = &files[file_idx];
            if !file.contains(&name) {
                let what = format!("is missing, and `{INDEX}` says that it is here");
                return Err(WeightsError::Tensor { path: file.path().to_owned(), tensor: name, what });
            }
            file_of.insert(name, file_idx);
        }
        Ok(Self { dir: dir.to_owned(), files, file_of })
    }

    pub fn contains(&self, name: &str) -> bool {
        self.file_of.contains_key(name)
    }

    pub fn tensor(&self, name: &str) -> Result<Tensor, WeightsError> {
        match self.file_of.get(name) {
            Some(file_idx) => self.files[*file_idx].tensor(name),
            None => Err(self.refuse(name, "is missing".to_owned())),
        }
    }

    /// What is wrong with a tensor, with the file it lies in; with the directory when it lies in none.
    pub fn refuse(&self, name: &str, what: String) -> WeightsError {
        let path = match self.file_of.get(name) {
            Some(file_idx) => self.files[*file_idx].path(),
            None => &self.dir,
        };
        WeightsError::Tensor { path: path.to_owned(), tensor: name.to_owned(), what }
    }
}
