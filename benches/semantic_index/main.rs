//! Measures the semantic index of one replica: lookups, inserts, memory and the start from its file.
//!
//! Checks nothing. Run it as `cargo run --release --example semantic_index -- DIR [N_ENTRIES]`; what was in
//! DIR is gone afterwards.
//!
//! Invariants: vectors of 384 dimensions in clusters, as texts about the same things are; every lookup is
//! for a vector beside a stored one, wants 16 neighbours and sets no bar, so that nothing spares it work.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stiver::cache::index::{Index, IndexEntry, ScanConfig, ScanIndex, Wanted};
use stiver::cache::{EntryId, StoredAnswer};
use stiver::chat::{Fingerprint, Usage};
use stiver::money::NanoUsd;

type Failure = Box<dyn Error + Send + Sync>;

const N_DIMS: usize = 384;
const N_CLUSTERS: usize = 2_000;
const N_NEIGHBOURS: usize = 16;
const N_LOOKUPS: usize = 3_000;
const ANSWER_BYTES: usize = 1_024;
const SEED: u64 = 7;
const NOW_MS: i64 = 1_700_000_000_000;

/// Where vectors come from.
struct Texts {
    random: StdRng,
    centres: Vec<Vec<f32>>,
}

impl Texts {
    fn new() -> Self {
        let mut random = StdRng::seed_from_u64(SEED);
        let centres = (0..N_CLUSTERS).map(|_| direction(&mut random)).collect();
        Self { random, centres }
    }

    /// Two of one cluster have a cosine of about 0.6.
    fn vector(&mut self) -> Arc<[f32]> {
        let cluster = self.random.random_range(0..N_CLUSTERS);
        let noise = direction(&mut self.random);
        beside(&self.centres[cluster], &noise, 0.8)
    }

    /// A vector with about that cosine to the given one, which `of` has to be near 1 for.
    fn much_like(&mut self, vector: &[f32]) -> Arc<[f32]> {
        let noise = direction(&mut self.random);
        beside(vector, &noise, 0.3)
    }
}

fn direction(random: &mut StdRng) -> Vec<f32> {
    // Sums of twelve uniform numbers are near enough to normal ones.
    let values: Vec<f32> =
        (0..N_DIMS).map(|_| (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0).collect();
    unit(values).to_vec()
}

fn beside(vector: &[f32], noise: &[f32], share: f32) -> Arc<[f32]> {
    unit(vector.iter().zip(noise).map(|(value, noise)| value + share * noise).collect())
}

fn unit(values: Vec<f32>) -> Arc<[f32]> {
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.into_iter().map(|value| value / length).collect()
}

fn scope(n: usize) -> Fingerprint {
    Fingerprint::new(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn entry(n: usize, n_scopes: usize, vector: Arc<[f32]>) -> IndexEntry {
    let id = EntryId::of(Fingerprint::new(*blake3::hash(format!("entry {n}").as_bytes()).as_bytes()));
    let answer = StoredAnswer {
        body: vec![b'a' + (n % 26) as u8; ANSWER_BYTES].into(),
        model: "small".to_owned(),
        upstream: "house".to_owned(),
        usage: Usage::default(),
        cost: Some(NanoUsd::new(500_000)),
        stored_at_ms: NOW_MS,
        origin: None,
    };
    IndexEntry {
        id,
        scope: scope(n % n_scopes),
        vector,
        text: format!("question {n:06}: how do I change the address of my order, please?").into(),
        group: id.own_group(),
        worth: NanoUsd::new(500_000),
        answer: answer.encode(),
        expires_at_ms: i64::MAX,
    }
}

/// Memory that the process holds, in bytes; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kib| kib * 1_024)
}

fn open(dir: Option<&Path>) -> ScanIndex {
    let config = ScanConfig { max_entries: usize::MAX, max_bytes: u64::MAX, dir: dir.map(Path::to_owned) };
    ScanIndex::open(&config, NOW_MS)
}

/// Fills an index and tells how long it took; one vector in a hundred is kept for asking.
async fn fill(
    index: &ScanIndex,
    n_entries: usize,
    n_scopes: usize,
) -> Result<Vec<(usize, Arc<[f32]>)>, Failure> {
    let mut texts = Texts::new();
    let mut waits = Histogram::<u64>::new(3)?;
    let mut asked = Vec::new();
    for n in 0..n_entries {
        let vector = texts.vector();
        if n % 100 == 0 {
            asked.push((n % n_scopes, texts.much_like(&vector)));
        }
        let entry = entry(n, n_scopes, vector);
        let began = Instant::now();
        index.upsert(entry, NOW_MS).await?;
        waits.record(nanos(began))?;
    }
    let seconds = waits.mean() * waits.len() as f64 / 1e9;
    say(&format!("inserts: {:.0} a second, {}", n_entries as f64 / seconds, quantiles(&waits)))?;
    Ok(asked)
}

async fn look_up(index: &ScanIndex, asked: &[(usize, Arc<[f32]>)]) -> Result<(), Failure> {
    let mut waits = Histogram::<u64>::new(3)?;
    for (in_scope, vector) in asked.iter().cycle().take(N_LOOKUPS) {
        let scope = scope(*in_scope);
        let wanted = Wanted { scope: &scope, vector, k: N_NEIGHBOURS, min_similarity: -1.0, now_ms: NOW_MS };
        let began = Instant::now();
        let near = index.nearest(wanted).await?;
        waits.record(nanos(began))?;
        if near.len() < N_NEIGHBOURS {
            return Err("fewer neighbours than there are entries".into());
        }
    }
    say(&format!("lookups: {}", quantiles(&waits)))
}

fn nanos(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn quantiles(waits: &Histogram<u64>) -> String {
    let us = |quantile| waits.value_at_quantile(quantile) as f64 / 1_000.0;
    format!("p50 {:.1} us, p99 {:.1} us, longest {:.1} us", us(0.5), us(0.99), us(1.0))
}

fn say(line: &str) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: semantic_index DIR [N_ENTRIES]")?);
    let n_entries = arguments.next().map_or(Ok(100_000), |n| n.parse())?;
    let file = dir.join("semantic.log");
    let _ = std::fs::remove_file(&file);

    say(&format!("one scope of {n_entries}"))?;
    let index = open(Some(&dir));
    let before = resident_bytes();
    let asked = fill(&index, n_entries, 1).await?;
    let held = resident_bytes().saturating_sub(before) / n_entries as u64;
    let counted = index.size_bytes().unwrap_or(0) / n_entries as u64;
    say(&format!("memory: {held} bytes an entry held, {counted} counted"))?;
    look_up(&index, &asked).await?;
    drop(index);
    let began = Instant::now();
    let index = open(Some(&dir));
    let seconds = began.elapsed().as_secs_f64();
    let file_bytes = std::fs::metadata(&file)?.len();
    say(&format!("start: {} entries in {seconds:.2} s from {file_bytes} bytes", index.count().await?))?;
    look_up(&index, &asked).await?;
    drop(index);
    std::fs::remove_file(&file)?;

    let n_scopes = n_entries.div_ceil(100);
    say(&format!("{n_scopes} scopes, {n_entries} entries in all, no file"))?;
    let index = open(None);
    let asked = fill(&index, n_entries, n_scopes).await?;
    look_up(&index, &asked).await
}
