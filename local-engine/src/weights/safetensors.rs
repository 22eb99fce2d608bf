//! One `.safetensors` file, mapped into memory: a header of names, types, shapes and places, then numbers.
//!
//! Copies no numbers, and does not know what they are for.
//!
//! Invariants: a tensor that is handed out lies in the file and is as long as its type and shape ask;
//! no two tensors share a byte.

#![expect(unsafe_code, reason = "a file is mapped: copying gigabytes would double the memory a model takes")]

mod header;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use self::header::Entry;
use super::{Dtype, Tensor, WeightsError};

#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    /// What follows the header.
    numbers: Bytes,
    entries: BTreeMap<String, Entry>,
}

impl SafetensorsFile {
    /// The file must not be changed while it is in use: a model's file is replaced, not rewritten.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let unreadable = |source| WeightsError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        // SAFETY: the map is only read. Another process could still write to or cut the file, which no
        // program can prevent; the caller is told not to, as with every engine that maps its weights.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(unreadable)?;
        Self::parse(path, Bytes::from_owner(map))
    }

    /// Of bytes in memory; the path is for errors.
    pub fn parse(path: &Path, bytes: Bytes) -> Result<Self, WeightsError> {
        let (entries, numbers) = header::parse(path, &bytes)?;
        Ok(Self { path: path.to_owned(), numbers: bytes.slice(numbers..), entries })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    pub fn tensor(&self, name: &str) -> Result<Tensor, WeightsError> {
        let wrong = |what: String| {
            let (path, tensor) = (self.path.clone(), name.to_owned());
            WeightsError::Tensor { path, tensor, what }
        };
        let entry = self.entries.get(name).ok_or_else(|| wrong("is missing".to_owned()))?;
        let dtype = Dtype::from_name(&entry.dtype)
            .ok_or_else(|| wrong(format!("is of type {}, which no supported weight has", entry.dtype)))?;
        let bytes = self.numbers.slice(entry.begin..entry.end);
        Ok(Tensor { dtype, shape: entry.shape.clone(), bytes })
    }
}

#[cfg(test)]
mod tests;
