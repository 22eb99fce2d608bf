//! Whatever stands in the file of semantic entries, it opens within its bounds, and again the same.

#![no_main]

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use stiver::cache::EntryId;
use stiver::cache::index::{Index, ScanConfig, ScanIndex, Wanted};
use stiver::chat::Fingerprint;

const MAX_ENTRIES: usize = 4;
const MAX_BYTES: u64 = 1 << 16;

/// What takes no time is there at once.
fn now<T>(mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>) -> T {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("small scopes are compared where they are asked for"),
    }
}

/// Records with sound lengths and checksums: from nothing, a fuzzer hardly finds its way past those.
fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"stvsem1\n".to_vec();
    for body in bodies {
        file.extend(u32::try_from(body.len()).expect("inputs are small").to_le_bytes());
        file.extend(crc32fast::hash(body).to_le_bytes());
        file.extend(body);
    }
    file
}

fn opened(dir: &Path) -> ScanIndex {
    let config =
        ScanConfig { max_entries: MAX_ENTRIES, max_bytes: MAX_BYTES, dir: Some(dir.to_owned()) };
    ScanIndex::open(&config, 0)
}

fn check(dir: &Path, bodies: &[Vec<u8>]) {
    let index = opened(dir);
    let n_entries = now(index.count()).expect("memory can be counted");
    assert!(n_entries <= MAX_ENTRIES as u64 && index.size_bytes().expect("it lies in memory") <= MAX_BYTES);
    for body in bodies.iter().filter(|body| body.len() >= 65) {
        let half = |at: usize| Fingerprint::new(std::array::from_fn(|idx| body[at + idx]));
        let _ = now(index.answer(EntryId::of(half(1))));
        let scope = half(33);
        for vector in [&[1.0][..], &[0.6, 0.8], &[0.0; 70]] {
            let wanted = Wanted { scope: &scope, vector, k: 3, min_similarity: -1.0, now_ms: 0 };
            let near = now(index.nearest(wanted)).unwrap_or_default();
            assert!(near.len() <= 3 && near.is_sorted_by(|a, b| a.similarity >= b.similarity));
        }
    }
    drop(index);
    assert_eq!(now(opened(dir).count()).expect("memory can be counted"), n_entries);
}

fuzz_target!(|input: Result<Vec<Vec<u8>>, Vec<u8>>| {
    let dir = std::env::temp_dir().join(format!("stiver-semantic-log-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder for the file");
    let (bodies, file) = match input {
        Ok(bodies) => {
            let file = framed(&bodies);
            (bodies, file)
        }
        Err(file) => (Vec::new(), file),
    };
    std::fs::write(dir.join("semantic.log"), file).expect("room for the file");
    check(&dir, &bodies);
});
