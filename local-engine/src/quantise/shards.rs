//! Tensors go to disk as they come, in files of bounded size.
//!
//! Knows no model and no config.
//!
//! Invariants: memory holds the tensors of one file; no file has its final name before all are written, so
//! an interrupted run leaves nothing that could be taken for a checkpoint.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::QuantiseError;
use crate::weights::Tensor;
use crate::weights::write::write_safetensors;

/// A file is written when it has so many bytes; what is smaller in all becomes one file.
pub(super) const SHARD_BYTES: usize = 2 << 30;

#[derive(Debug)]
pub(super) struct ShardWriter {
    dir: PathBuf,
    limit_bytes: usize,
    pending: Vec<(String, Tensor)>,
    pending_bytes: usize,
    /// The names in each file that is written.
    written: Vec<Vec<String>>,
    n_bytes: usize,
}

impl ShardWriter {
    pub(super) fn new(dir: &Path, limit_bytes: usize) -> Self {
        let (pending, written) = (Vec::new(), Vec::new());
        Self { dir: dir.to_owned(), limit_bytes, pending, pending_bytes: 0, written, n_bytes: 0 }
    }

    /// A tensor never makes a file larger than the limit, unless it does so alone.
    pub(super) fn push(&mut self, name: String, tensor: Tensor) -> Result<(), QuantiseError> {
        if !self.pending.is_empty() && self.pending_bytes + tensor.bytes.len() > self.limit_bytes {
            self.write_pending()?;
        }
        self.pending_bytes += tensor.bytes.len();
        self.n_bytes += tensor.bytes.len();
        self.pending.push((name, tensor));
        Ok(())
    }

    /// Gives the files their names, and lists them where there is more than one. Says how many there are.
    pub(super) fn finish(mut self) -> Result<usize, QuantiseError> {
        self.write_pending()?;
        let n_files = self.written.len();
        if n_files == 1 {
            self.rename(0, "model.safetensors")?;
            return Ok(1);
        }
        let mut weight_map = Map::new();
        for (file_idx, names) in self.written.iter().enumerate() {
            let file = format!("model-{:05}-of-{n_files:05}.safetensors", file_idx + 1);
            self.rename(file_idx, &file)?;
            weight_map.extend(names.iter().map(|name| (name.clone(), Value::from(file.as_str()))));
        }
        let index = json!({"metadata": {"total_size": self.n_bytes}, "weight_map": weight_map});
        let path = self.dir.join("model.safetensors.index.json");
        std::fs::write(&path, format!("{index:#}\n"))
            .map_err(|source| QuantiseError::File { path, source })?;
        Ok(n_files)
    }

    fn write_pending(&mut self) -> Result<(), QuantiseError> {
        write_safetensors(&self.unnamed(self.written.len()), &self.pending)?;
        self.written.push(self.pending.drain(..).map(|(name, _)| name).collect());
        self.pending_bytes = 0;
        Ok(())
    }

    fn rename(&self, file_idx: usize, name: &str) -> Result<(), QuantiseError> {
        let path = self.dir.join(name);
        std::fs::rename(self.unnamed(file_idx), &path).map_err(|source| QuantiseError::File { path, source })
    }

    fn unnamed(&self, file_idx: usize) -> PathBuf {
        self.dir.join(format!("unfinished-{file_idx}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::store::TensorStore;

    /// Four tensors of 40 bytes.
    fn write(limit_bytes: usize) -> (tempfile::TempDir, usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut shards = ShardWriter::new(dir.path(), limit_bytes);
        for name in ["a", "b", "c", "d"] {
            shards.push(name.to_owned(), Tensor::of_f32(&[10], &[1.5; 10])).unwrap();
        }
        let n_files = shards.finish().unwrap();
        (dir, n_files)
    }

    #[test]
    fn files_are_filled_to_the_limit_and_not_over_it() {
        for (limit_bytes, expected) in [(160, 1), (159, 2), (80, 2), (79, 4), (40, 4), (1, 4)] {
            assert_eq!(write(limit_bytes).1, expected, "{limit_bytes}");
        }
    }

    #[test]
    fn what_is_written_in_shards_is_found_through_the_index() {
        let (dir, _) = write(120);

        let store = TensorStore::open(dir.path()).unwrap();

        let mut names: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
        ];
        assert_eq!(names, expected);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(store.tensor(name).unwrap().to_f32(), [1.5; 10]);
        }
    }
}
