//! Writes tensors as one safetensors file.
//!
//! Splits nothing into shards and writes no config.
//!
//! Invariants: the file appears whole or not at all; every tensor begins at a multiple of its numbers' size.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Tensor, WeightsError};

/// Names are unique, which is for the caller to see to.
pub fn write_safetensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), WeightsError> {
    let wrong = |source| WeightsError::Read { path: path.to_owned(), source };
    // The widest numbers first: then none begins between two of its own.
    let mut by_size: Vec<&(String, Tensor)> = tensors.iter().collect();
    by_size.sort_by(|(a_name, a), (b_name, b)| {
        b.dtype.size_bytes().cmp(&a.dtype.size_bytes()).then_with(|| a_name.cmp(b_name))
    });
    let unfinished = path.with_extension("partial");
    write_all(&unfinished, &by_size).map_err(wrong)?;
    std::fs::rename(&unfinished, path).map_err(wrong)
}

fn write_all(path: &Path, tensors: &[&(String, Tensor)]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let header = header(tensors);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (_, tensor) in tensors {
        file.write_all(&tensor.bytes)?;
    }
    file.into_inner()?.sync_all()
}

fn header(tensors: &[&(String, Tensor)]) -> Vec<u8> {
    // Transformers refuses a file that does not say which framework's tensors it holds.
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut begin = 0;
    for (name, tensor) in tensors {
        let end = begin + tensor.bytes.len();
        let entry = json!({
            "dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": [begin, end],
        });
        entries.insert(name.clone(), entry);
        begin = end;
    }
    let mut header = Value::Object(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    header
}
