//! A safetensors header: eight bytes of length, then JSON from tensor names to types, shapes and places.
//!
//! Looks at no numbers. Strings under `__metadata__` mean nothing here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::weights::{Dtype, WeightsError};

/// The format's own limit.
const MAX_HEADER_BYTES: usize = 100_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    /// Counted from the end of the header.
    pub(super) begin: usize,
    pub(super) end: usize,
}

/// The tensors, and where in the file the numbers begin.
pub(super) fn parse(path: &Path, file: &[u8]) -> Result<(BTreeMap<String, Entry>, usize), WeightsError> {
    let wrong = |what: String| WeightsError::File { path: path.to_owned(), what };
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(wrong(format!("has {} bytes, which is no safetensors file", file.len())));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().filter(|length| *length <= MAX_HEADER_BYTES);
    let Some(header) = header.and_then(|length| rest.get(..length)) else {
        return Err(wrong(format!(
            "the header says it is {length} bytes long and the file has {}; it is truncated or no safetensors file",
            file.len()
        )));
    };
    let listed: Listed = serde_json::from_slice(header)
        .map_err(|error| wrong(format!("the header is not what a safetensors header is: {error}")))?;
    let mut entries = BTreeMap::new();
    for (name, value) in listed.0 {
        let of_tensor = |what| WeightsError::Tensor { path: path.to_owned(), tensor: name.clone(), what };
        let entry = Entry::parse(value).map_err(of_tensor)?;
        if entries.contains_key(&name) {
            return Err(of_tensor("is listed twice".to_owned()));
        }
        entries.insert(name, entry);
    }
    check_places(&entries, rest.len() - header.len()).map_err(|(tensor, what)| WeightsError::Tensor {
        path: path.to_owned(),
        tensor,
        what,
    })?;
    Ok((entries, 8 + header.len()))
}

impl Entry {
    fn parse(value: Value) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Raw {
            dtype: String,
            shape: Vec<usize>,
            data_offsets: (usize, usize),
        }
        let Raw { dtype, shape, data_offsets: (begin, end) } =
            serde_json::from_value(value).map_err(|error| format!("its header entry is wrong: {error}"))?;
        if begin > end {
            return Err(format!("ends at byte {end}, before it begins at {begin}"));
        }
        // Other types may stand in a file as long as nobody asks for them.
        if let Some(known) = Dtype::from_name(&dtype) {
            let n_bytes = shape.iter().try_fold(known.size_bytes(), |n, dim| n.checked_mul(*dim));
            if n_bytes != Some(end - begin) {
                return Err(format!(
                    "has {} bytes, which is not what {dtype} of {shape:?} takes",
                    end - begin
                ));
            }
        }
        Ok(Self { dtype, shape, begin, end })
    }
}

/// The format wants the tensors to cover the rest of the file, each byte once.
fn check_places(entries: &BTreeMap<String, Entry>, n_bytes: usize) -> Result<(), (String, String)> {
    let mut by_place: Vec<(&String, &Entry)> = entries.iter().collect();
    by_place.sort_by_key(|(_, entry)| (entry.begin, entry.end));
    let mut covered = 0;
    for (name, Entry { begin, end, .. }) in by_place {
        if *end > n_bytes {
            let what = format!("ends at byte {end} of {n_bytes}; the file is truncated");
            return Err((name.clone(), what));
        }
        if *begin != covered {
            let wrong =
                if *begin < covered { "overlaps the one before it" } else { "leaves a hole before it" };
            return Err((name.clone(), format!("begins at byte {begin} and not at {covered}: it {wrong}")));
        }
        covered = *end;
    }
    Ok(())
}

/// A map that keeps what is listed twice.
struct Listed(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listed, A::Error> {
        let mut listed = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
            } else {
                listed.push((name, map.next_value()?));
            }
        }
        Ok(Listed(listed))
    }
}
