//! The vectors of one scope, side by side in memory so that comparing with all of them is fast.
//!
//! Knows no bounds, no other scope, and of an entry only its vector, its age and its end.
//!
//! Invariants: row `i` owns the `i`-th run of `n_dims` floats and of codes; the nearest are those of a
//! plain comparison of all floats, the newer first where two are equally near: codes only spare
//! comparing those that cannot be among them.

use super::super::Wanted;
use super::codes::Codes;
use super::dot;
use super::rounded::{Question, Reading, store};
use super::shelf::Handle;

/// Wide enough for the compiler to keep the sums in vector registers.
const N_LANES: usize = 16;
/// Rows whose sums are kept at a time, few enough to stay in the nearest cache.
const BLOCK_ROWS: usize = 512;

pub(super) struct Partition {
    n_dims: usize,
    vectors: Vec<f32>,
    codes: Codes,
    scales: Vec<f32>,
    errors: Vec<f32>,
    /// The length of the longest that the codes ever stood for.
    longest: f32,
    rows: Vec<Row>,
}

/// What is asked of a row that is near enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) entry: Handle,
    pub(super) age: u64,
    pub(super) expires_at_ms: i64,
}

/// A row found near, and how near.
#[derive(Debug, Clone, Copy)]
pub(super) struct Near {
    pub(super) entry: Handle,
    pub(super) similarity: f32,
    age: u64,
}

impl Near {
    /// The nearer, and of the equally near the newer.
    fn goes_before(&self, other: &Self) -> bool {
        self.similarity.total_cmp(&other.similarity).then(self.age.cmp(&other.age)).is_gt()
    }
}

/// A row that may be among the nearest: no more alike than `upper`.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    upper: f32,
    row_idx: usize,
}

impl Partition {
    pub(super) fn of_dims(n_dims: usize) -> Self {
        Self {
            n_dims,
            vectors: Vec::new(),
            codes: Codes::of_stride(n_dims.next_multiple_of(dot::STEP)),
            scales: Vec::new(),
            errors: Vec::new(),
            longest: 0.0,
            rows: Vec::new(),
        }
    }

    pub(super) fn n_dims(&self) -> usize {
        self.n_dims
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What one comparison with all reads.
    pub(super) fn scan_bytes(&self) -> usize {
        self.codes.bytes().len()
    }

    /// Tells the place of the new row.
    pub(super) fn push(&mut self, row: Row, vector: &[f32]) -> usize {
        let rounding = store(vector, self.codes.push());
        self.scales.push(rounding.scale);
        self.errors.push(rounding.error);
        self.longest = self.longest.max(rounding.length);
        self.vectors.extend_from_slice(vector);
        self.rows.push(row);
        self.rows.len() - 1
    }

    /// The last row takes the place of the one that goes; tells whose it is, where there is one.
    pub(super) fn swap_remove(&mut self, idx: usize) -> Option<Handle> {
        let last = self.rows.len() - 1;
        self.vectors.copy_within(last * self.n_dims.., idx * self.n_dims);
        self.vectors.truncate(last * self.n_dims);
        self.codes.swap_remove(idx);
        self.scales.swap_remove(idx);
        self.errors.swap_remove(idx);
        self.rows.swap_remove(idx);
        if self.vectors.capacity() > 4 * self.vectors.len() {
            self.vectors.shrink_to(2 * self.vectors.len());
        }
        self.rows.get(idx).map(|row| row.entry)
    }

    pub(super) fn vector(&self, idx: usize) -> &[f32] {
        &self.vectors[idx * self.n_dims..(idx + 1) * self.n_dims]
    }

    /// Nearest first.
    pub(super) fn nearest(&self, wanted: &Wanted<'_>) -> Vec<Near> {
        if wanted.k == 0 {
            return Vec::new();
        }
        let mut candidates = self.candidates(wanted);
        candidates.sort_unstable_by(|a, b| b.upper.total_cmp(&a.upper));
        let mut near: Vec<Near> = Vec::with_capacity(candidates.len().min(wanted.k) + 1);
        for candidate in candidates {
            let is_full = near.len() == wanted.k;
            if is_full && near.last().is_some_and(|least| candidate.upper < least.similarity) {
                break;
            }
            let Row { entry, age, .. } = self.rows[candidate.row_idx];
            let similarity = dot(self.vector(candidate.row_idx), wanted.vector);
            if similarity >= wanted.min_similarity {
                let found = Near { entry, similarity, age };
                let place = near.partition_point(|other| other.goes_before(&found));
                near.insert(place, found);
                near.truncate(wanted.k);
            }
        }
        near
    }

    /// Every living row whose bound reaches the least of the `k` best that are certain.
    fn candidates(&self, wanted: &Wanted<'_>) -> Vec<Candidate> {
        let stride = self.codes.stride();
        let question = Question::of(wanted.vector, stride);
        let reading = question.reading(self.longest);
        let mut bar = Bar::new(wanted.k, wanted.min_similarity);
        let mut candidates = Vec::new();
        let mut sums = [0; BLOCK_ROWS];
        let mut uppers = [f32::NEG_INFINITY; BLOCK_ROWS];
        for (block_idx, codes) in self.codes.bytes().chunks(BLOCK_ROWS * stride).enumerate() {
            let (start, n_rows) = (block_idx * BLOCK_ROWS, codes.len() / stride);
            dot::sums(codes, &question.codes, &mut sums[..n_rows]);
            self.bound(&reading, start, &sums[..n_rows], &mut uppers);
            for (group_idx, group) in uppers[..n_rows].chunks(N_LANES).enumerate() {
                // Nearly always none is, which all lanes tell at once.
                if !group.iter().fold(false, |any, upper| any | (*upper >= bar.least)) {
                    continue;
                }
                for (idx, upper) in group.iter().enumerate() {
                    let row_idx = start + group_idx * N_LANES + idx;
                    if *upper >= bar.least && self.rows[row_idx].expires_at_ms > wanted.now_ms {
                        candidates.push(Candidate { upper: *upper, row_idx });
                        bar.raise(upper - 2.0 * reading.reach(self.errors[row_idx]));
                    }
                }
            }
        }
        candidates.retain(|candidate| candidate.upper >= bar.least);
        candidates
    }

    /// Apart from what looks at them, for the compiler to take many at once.
    fn bound(&self, reading: &Reading, start: usize, sums: &[i32], uppers: &mut [f32; BLOCK_ROWS]) {
        let scales = &self.scales[start..start + sums.len()];
        let errors = &self.errors[start..start + sums.len()];
        for (((upper, sum), scale), error) in uppers.iter_mut().zip(sums).zip(scales).zip(errors) {
            *upper = reading.estimate(*sum, *scale) + reading.reach(*error);
        }
    }
}

/// The `k` best similarities that are certain so far: who cannot reach the least of them is out.
struct Bar {
    k: usize,
    /// The best first.
    certain: Vec<f32>,
    least: f32,
}

impl Bar {
    fn new(k: usize, min_similarity: f32) -> Self {
        Self { k, certain: Vec::new(), least: min_similarity }
    }

    fn raise(&mut self, similarity: f32) {
        if self.certain.len() == self.k && self.certain.last().is_some_and(|last| similarity <= *last) {
            return;
        }
        let place = self.certain.partition_point(|other| *other >= similarity);
        self.certain.insert(place, similarity);
        self.certain.truncate(self.k);
        if self.certain.len() == self.k {
            self.least = self.certain.last().map_or(self.least, |last| last.max(self.least));
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; N_LANES];
    let (a_lanes, a_rest) = a.as_chunks::<N_LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<N_LANES>();
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..N_LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests;
