//! Measures whether the time that refusing a key takes tells anything of the keys there are.
//!
//! Judges nothing and knows no network: what it times is the check itself, where a difference is plainest. Run
//! it as `cargo run --release --example key_timing -- [N_SAMPLES]`, on a machine that does nothing else.
//!
//! Invariants: the kinds of wrong keys are timed in turns, in an order drawn anew each turn; all have the same
//! length and the same sort of character in each place, and are read from one place in memory; every key is
//! refused in the same words.

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use secrecy::ExposeSecret;
use stiver::admission::{KeyRefused, KeyRing};
use stiver::ledger::keys::{NewKey, make};
use stiver::team::TeamName;
use stiver::team::key::PREFIX;

type Failure = Box<dyn Error + Send + Sync>;

/// So many that a slot of the table which happens to be slower weighs nothing.
const N_KEYS: usize = 10_000;
/// Checks in one sample: one alone takes about as long as asking the clock does.
const N_CHECKS: usize = 16;
/// Of each kind's samples, the slowest in a hundred are interruptions.
const KEPT: f64 = 0.99;
const KINDS: [&str; 5] = [
    "first character of the secret",
    "middle character of the secret",
    "last character of the secret",
    "unknown id",
    "another unknown id",
];

/// Where a key differs from one that there is, kind by kind.
fn places(key: &str) -> Option<[usize; KINDS.len()]> {
    let (id, secret, last) = (PREFIX.len(), key.rfind('-')? + 1, key.len() - 1);
    // The last two are the measure of chance: nobody knows either.
    Some([secret, secret.midpoint(last), last, id, secret - 2])
}

/// Puts the key into `wrong`, but for one character, which is another of the same sort: so what is checked of
/// the form branches alike.
fn write_wrong(wrong: &mut String, key: &str, at: usize, rng: &mut StdRng) {
    let right = key.as_bytes()[at];
    let sort = if right.is_ascii_digit() { b'2'..=b'7' } else { b'a'..=b'z' };
    let other = loop {
        let drawn = rng.random_range(sort.clone());
        if drawn != right {
            break drawn;
        }
    };
    wrong.clear();
    wrong.push_str(&key[..at]);
    wrong.push(char::from(other));
    wrong.push_str(&key[at + 1..]);
}

/// Nanoseconds for one check, from the time of several.
fn time(ring: &KeyRing, key: &str) -> Result<f64, Failure> {
    let began = Instant::now();
    for _ in 0..N_CHECKS {
        let told = black_box(ring).admit(Some(black_box(key)), 0);
        if !matches!(told, Err(KeyRefused::Wrong)) {
            return Err("a wrong key was not refused as one".into());
        }
    }
    Ok(began.elapsed().as_nanos() as f64 / N_CHECKS as f64)
}

/// Samples of one kind, without the slowest.
struct Samples(Vec<f64>);

impl Samples {
    fn kept(mut samples: Vec<f64>) -> Self {
        samples.sort_unstable_by(f64::total_cmp);
        samples.truncate((samples.len() as f64 * KEPT) as usize);
        Self(samples)
    }

    fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The variance of the mean.
    fn error(&self) -> f64 {
        let (mean, n) = (self.mean(), self.0.len() as f64);
        self.0.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / (n - 1.0) / n
    }

    /// Welch's t: how many standard errors lie between two means.
    fn t(&self, other: &Self) -> f64 {
        (self.mean() - other.mean()) / (self.error() + other.error()).sqrt()
    }
}

fn measure(ring: &KeyRing, keys: &[String], n_samples: usize) -> Result<Vec<Samples>, Failure> {
    let mut rng = StdRng::seed_from_u64(7);
    let mut samples = vec![Vec::with_capacity(n_samples); KINDS.len()];
    let mut order: Vec<usize> = (0..KINDS.len()).collect();
    let mut wrong = String::with_capacity(256);
    for _ in 0..n_samples {
        let key = &keys[rng.random_range(0..keys.len())];
        let places = places(key).ok_or("a key has an id and a secret")?;
        order.shuffle(&mut rng);
        for kind in &order {
            write_wrong(&mut wrong, key, places[*kind], &mut rng);
            samples[*kind].push(time(ring, &wrong)?);
        }
    }
    Ok(samples.into_iter().map(Samples::kept).collect())
}

fn main() -> Result<(), Failure> {
    let n_samples = std::env::args().nth(1).map_or(Ok(200_000), |n| n.parse())?;
    let mut records = Vec::with_capacity(N_KEYS);
    let mut keys = Vec::with_capacity(N_KEYS);
    for nth in 0..N_KEYS {
        let new = NewKey {
            name: format!("key {nth}"),
            team: TeamName::from("search"),
            routes: None,
            expires_ms: None,
            budgets: None,
        };
        let (record, shown) = make(new, 0)?;
        records.push(record);
        keys.push(shown.expose_secret().to_owned());
    }
    let ring = KeyRing::new(BTreeMap::new(), records);
    measure(&ring, &keys, n_samples / 20 + 2)?;
    let samples = measure(&ring, &keys, n_samples.max(2))?;

    let mut out = std::io::stdout().lock();
    writeln!(out, "{n_samples} samples of {N_CHECKS} checks each, {N_KEYS} keys; wrong is the …")?;
    for (kind, samples) in KINDS.iter().zip(&samples) {
        writeln!(out, "{kind:32} median {:7.1} ns, mean {:7.1} ns", samples.median(), samples.mean())?;
    }
    writeln!(out, "Welch's t of each pair; beyond 4.5 either way a difference is taken for real")?;
    for (nth, one) in samples.iter().enumerate() {
        for (other, name) in samples.iter().zip(KINDS).skip(nth + 1) {
            writeln!(out, "{:32} {name:32} {:6.2}", KINDS[nth], one.t(other))?;
        }
    }
    Ok(())
}
