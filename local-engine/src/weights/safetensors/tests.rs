//! Files that are right, and all the ways in which a header can be wrong.

use serde_json::{Value, json};

use super::*;
use crate::weights::write::write_safetensors;

/// A file of this header and so many bytes of numbers.
fn file(header: &str, n_bytes: usize) -> Bytes {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend((0..n_bytes).map(|n| n as u8));
    file.into()
}

fn parse(header: &Value, n_bytes: usize) -> Result<SafetensorsFile, String> {
    let file = file(&header.to_string(), n_bytes);
    SafetensorsFile::parse(Path::new("dir/model.safetensors"), file).map_err(|error| error.to_string())
}

fn entry(dtype: &str, shape: &[usize], begin: usize, end: usize) -> Value {
    json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]})
}

#[test]
fn tensors_are_found_by_name_with_their_numbers() {
    let header = json!({
        "__metadata__": {"format": "pt"},
        "words": entry("I32", &[2], 4, 12),
        "halves": entry("F16", &[1, 2], 0, 4),
        "empty": entry("F32", &[0, 7], 4, 4),
    });

    let file = parse(&header, 12).unwrap();

    assert_eq!(file.names().collect::<Vec<_>>(), ["empty", "halves", "words"]);
    let words = file.tensor("words").unwrap();
    assert_eq!((words.dtype, words.word(0), words.word(1)), (Dtype::I32, 0x0706_0504, 0x0b0a_0908));
    assert_eq!(file.tensor("halves").unwrap().shape, [1, 2]);
    assert_eq!(file.tensor("empty").unwrap().n_elements(), 0);
    let missing = file.tensor("scales").unwrap_err().to_string();
    assert_eq!(missing, "dir/model.safetensors: tensor `scales`: is missing");
}

#[test]
fn a_type_nobody_knows_is_an_error_only_when_it_is_asked_for() {
    let header = json!({"eighths": entry("F8_E4M3", &[4], 0, 4), "one": entry("F32", &[1], 4, 8)});

    let file = parse(&header, 8).unwrap();

    assert!(file.tensor("one").is_ok());
    let error = file.tensor("eighths").unwrap_err().to_string();
    assert!(error.contains("`eighths`") && error.contains("F8_E4M3"), "{error}");
}

#[test]
fn a_tensor_that_does_not_lie_in_the_file_is_refused_by_name() {
    let check = |begin, end, n_bytes, expected: &str| {
        let error = parse(&json!({"x": entry("F32", &[2], begin, end)}), n_bytes).unwrap_err();
        assert!(error.starts_with("dir/model.safetensors: tensor `x`: "), "{error}");
        assert!(error.contains(expected), "{error}");
    };

    assert!(parse(&json!({"x": entry("F32", &[2], 0, 8)}), 8).is_ok());
    check(0, 8, 7, "truncated");
    check(8, 16, 8, "truncated");
    check(4, 12, 12, "hole");
    check(8, 0, 8, "before it begins");
    check(0, 7, 8, "takes");
    check(0, 9, 9, "takes");
    check(usize::MAX - 8, usize::MAX, 8, "truncated");
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    let header = json!({"a": entry("F32", &[2], 0, 8), "b": entry("F32", &[1], 4, 8)});

    let error = parse(&header, 8).unwrap_err();

    assert!(error.contains("tensor `b`: begins at byte 4 and not at 8: it overlaps"), "{error}");
}

#[test]
fn a_tensor_listed_twice_is_refused() {
    let entry = entry("F32", &[1], 0, 4);
    let bytes = file(&format!(r#"{{"x": {entry}, "x": {entry}}}"#), 4);

    let error = SafetensorsFile::parse(Path::new("m"), bytes).unwrap_err().to_string();

    assert_eq!(error, "m: tensor `x`: is listed twice");
}

#[test]
fn an_entry_that_is_none_is_refused_by_name() {
    for wrong in [
        json!({"dtype": "F32", "shape": [1]}),
        json!({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}),
        json!({"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}),
        json!({"dtype": 7, "shape": [1], "data_offsets": [0, 4]}),
        json!({"dtype": "F32", "shape": [1], "data_offsets": [0]}),
        json!({"dtype": "F32", "shape": [u64::MAX, u64::MAX], "data_offsets": [0, 4]}),
        json!([1, 2]),
        Value::Null,
    ] {
        let error = parse(&json!({"x": wrong}), 4).unwrap_err();

        assert!(error.starts_with("dir/model.safetensors: tensor `x`: "), "{wrong}: {error}");
    }
}

#[test]
fn a_header_that_is_none_is_refused_with_the_file() {
    let check = |bytes: &[u8], expected: &str| {
        let bytes = Bytes::copy_from_slice(bytes);
        let error = SafetensorsFile::parse(Path::new("dir/m"), bytes).unwrap_err().to_string();
        assert!(error.starts_with("dir/m: ") && error.contains(expected), "{error}");
    };

    check(b"", "has 0 bytes");
    check(b"1234567", "has 7 bytes");
    check(&u64::MAX.to_le_bytes(), "truncated or no safetensors file");
    check(&file("{}", 0)[..9], "truncated or no safetensors file");
    check(&file("[]", 0), "not what a safetensors header is");
    check(&file("{", 0), "not what a safetensors header is");
    check(&file(&"[".repeat(100_000), 0), "not what a safetensors header is");
    check(b"version https://git-lfs.github.com/spec/v1", "no safetensors file");
}

#[test]
fn what_is_written_reads_the_same_here_and_in_the_formats_own_crate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let halves = Tensor { dtype: Dtype::F16, shape: vec![3], bytes: Bytes::from_static(b"abcdef") };
    let words = Tensor { dtype: Dtype::I32, shape: vec![1, 1], bytes: Bytes::from_static(b"wxyz") };
    let tensors = [
        ("b".to_owned(), halves),
        ("a".to_owned(), words),
        ("c".to_owned(), Tensor::of_f32(&[2], &[1.5, -2.0])),
    ];

    write_safetensors(&path, &tensors).unwrap();

    let file = SafetensorsFile::open(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in &tensors {
        let found = file.tensor(name).unwrap();
        assert_eq!((found.dtype, &found.shape, &found.bytes), (tensor.dtype, &tensor.shape, &tensor.bytes));
        let found = theirs.tensor(name).unwrap();
        assert_eq!((found.shape(), found.data()), (&tensor.shape[..], &tensor.bytes[..]));
        let begin = found.data().as_ptr().addr() - bytes.as_ptr().addr();
        assert!(begin.is_multiple_of(tensor.dtype.size_bytes()), "{name} begins at {begin}");
    }
    assert_eq!(theirs.len(), 3);
    assert!(!path.with_extension("partial").exists());
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.safetensors");
    std::fs::write(&empty, b"").unwrap();

    for path in [dir.path().join("absent.safetensors"), empty, dir.path().to_owned()] {
        let error = SafetensorsFile::open(&path).unwrap_err().to_string();

        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }
}
