//! Ways to cut an array into parts that do not overlap, so that tasks may write them at once.
//!
//! Runs nothing ([`super::Pool::for_each`] does).
//!
//! Invariants: two parts of different indices share no element.
#![expect(
    unsafe_code,
    reason = "that parts do not overlap is arithmetic, which the borrow checker does not do"
)]

use std::marker::PhantomData;
use std::ops::Range;

/// # Safety
///
/// Parts of different indices must not overlap.
pub(crate) unsafe trait Split: Sync {
    type Part;

    fn n_parts(&self) -> usize;

    /// # Safety
    ///
    /// An index is below `n_parts`, and asked for once.
    unsafe fn part(&self, part_idx: usize) -> Self::Part;
}

/// An array borrowed for as long as its parts are.
struct Whole<'a, T> {
    first: *mut T,
    len: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` whose users take disjoint parts.
unsafe impl<T: Send> Sync for Whole<'_, T> {}

impl<'a, T> Whole<'a, T> {
    fn new(values: &'a mut [T]) -> Self {
        Self { first: values.as_mut_ptr(), len: values.len(), borrowed: PhantomData }
    }

    /// # Safety
    ///
    /// Nobody else holds an element of the range.
    unsafe fn range(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "a part lies in the whole");
        // SAFETY: it lies in the array, and the caller is its only holder.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }
}

/// Consecutive parts of one length, the last as long as what is left.
pub(crate) struct Chunks<'a, T> {
    whole: Whole<'a, T>,
    chunk_len: usize,
}

impl<'a, T> Chunks<'a, T> {
    pub(crate) fn new(values: &'a mut [T], chunk_len: usize) -> Self {
        Self { whole: Whole::new(values), chunk_len: chunk_len.max(1) }
    }
}

// SAFETY: a part ends where the next begins.
unsafe impl<'a, T: Send> Split for Chunks<'a, T> {
    type Part = &'a mut [T];

    fn n_parts(&self) -> usize {
        self.whole.len.div_ceil(self.chunk_len)
    }

    unsafe fn part(&self, part_idx: usize) -> &'a mut [T] {
        let start = part_idx * self.chunk_len;
        // SAFETY: the caller asks once, and other parts do not reach here.
        unsafe { self.whole.range(start..(start + self.chunk_len).min(self.whole.len)) }
    }
}

/// Parts of any length, one after another.
pub(crate) struct Ranges<'a, T> {
    whole: Whole<'a, T>,
    /// Where each part ends and the next begins.
    ends: &'a [usize],
}

impl<'a, T> Ranges<'a, T> {
    /// # Panics
    ///
    /// When a part ends before the one in front of it.
    pub(crate) fn new(values: &'a mut [T], ends: &'a [usize]) -> Self {
        assert!(ends.is_sorted(), "parts follow one another");
        Self { whole: Whole::new(values), ends }
    }
}

// SAFETY: the ends are sorted, so a part ends where the next begins.
unsafe impl<'a, T: Send> Split for Ranges<'a, T> {
    type Part = &'a mut [T];

    fn n_parts(&self) -> usize {
        self.ends.len()
    }

    unsafe fn part(&self, part_idx: usize) -> &'a mut [T] {
        let start = part_idx.checked_sub(1).map_or(0, |before| self.ends[before]);
        // SAFETY: the caller asks once, and other parts do not reach here.
        unsafe { self.whole.range(start..self.ends[part_idx]) }
    }
}

/// Indices, none of them twice.
#[derive(Debug, Default)]
pub(crate) struct Distinct {
    indices: Vec<usize>,
    sorted: Vec<usize>,
}

impl Distinct {
    /// Replaces the indices; says whether they are distinct, and has none when they are not.
    pub(crate) fn replace(&mut self, indices: impl Iterator<Item = usize>) -> bool {
        self.indices.clear();
        self.indices.extend(indices);
        self.sorted.clone_from(&self.indices);
        self.sorted.sort_unstable();
        let is_distinct = self.sorted.is_sorted_by(|a, b| a < b);
        if !is_distinct {
            self.indices.clear();
        }
        is_distinct
    }
}

/// Some of the rows of a table.
pub(crate) struct Picked<'a, T> {
    whole: Whole<'a, T>,
    n_columns: usize,
    rows: &'a Distinct,
}

impl<'a, T> Picked<'a, T> {
    pub(crate) fn new(values: &'a mut [T], n_columns: usize, rows: &'a Distinct) -> Self {
        Self { whole: Whole::new(values), n_columns, rows }
    }
}

// SAFETY: rows of different indices do not overlap, and no index is there twice.
unsafe impl<'a, T: Send> Split for Picked<'a, T> {
    type Part = &'a mut [T];

    fn n_parts(&self) -> usize {
        self.rows.indices.len()
    }

    unsafe fn part(&self, part_idx: usize) -> &'a mut [T] {
        let start = self.rows.indices[part_idx] * self.n_columns;
        // SAFETY: the caller asks once, and other parts do not reach here.
        unsafe { self.whole.range(start..start + self.n_columns) }
    }
}

/// A table of rows, cut into strips of whole columns; the last is as wide as what is left. Where it
/// is cut into bands of rows, too, each band has strips of its own.
pub(crate) struct Columns<'a, T> {
    whole: Whole<'a, T>,
    /// From a row to the next.
    n_columns: usize,
    width: usize,
    /// Rows of a band.
    band: usize,
}

impl<'a, T> Columns<'a, T> {
    /// # Panics
    ///
    /// When the values are no whole rows.
    pub(crate) fn new(values: &'a mut [T], n_columns: usize, width: usize) -> Self {
        assert!(values.len().is_multiple_of(n_columns.max(1)), "a table has whole rows");
        let band = values.len().checked_div(n_columns).unwrap_or(0).max(1);
        Self { whole: Whole::new(values), n_columns, width: width.max(1), band }
    }

    /// Cut across, too, after every `n_rows` rows: first all strips of the first rows, then of the next.
    pub(crate) fn in_bands(self, n_rows: usize) -> Self {
        Self { band: n_rows.max(1), ..self }
    }

    fn n_rows(&self) -> usize {
        self.whole.len.checked_div(self.n_columns).unwrap_or(0)
    }

    fn n_strips(&self) -> usize {
        self.n_columns.div_ceil(self.width)
    }

    fn strip(&self, part_idx: usize) -> Strip<'a, T> {
        let (band_idx, strip_idx) = (part_idx / self.n_strips(), part_idx % self.n_strips());
        let first_column = strip_idx * self.width;
        Strip {
            whole: Whole { first: self.whole.first, len: self.whole.len, borrowed: PhantomData },
            n_columns: self.n_columns,
            rows: band_idx * self.band..((band_idx + 1) * self.band).min(self.n_rows()),
            first_column,
            width: self.width.min(self.n_columns - first_column),
        }
    }
}

// SAFETY: a strip's columns end where the next strip's begin, and a band's rows where the next band's do.
unsafe impl<'a, T: Send> Split for Columns<'a, T> {
    type Part = Strip<'a, T>;

    fn n_parts(&self) -> usize {
        self.n_strips() * self.n_rows().div_ceil(self.band)
    }

    unsafe fn part(&self, part_idx: usize) -> Strip<'a, T> {
        self.strip(part_idx)
    }
}

/// Some columns of some rows of a table, and nobody else's.
pub(crate) struct Strip<'a, T> {
    whole: Whole<'a, T>,
    n_columns: usize,
    rows: Range<usize>,
    first_column: usize,
    width: usize,
}

impl<T> Strip<'_, T> {
    /// The strip's columns of one of its rows.
    pub(crate) fn row_mut(&mut self, row_idx: usize) -> &mut [T] {
        assert!(row_idx < self.rows.len(), "a row lies in the strip");
        let start = (self.rows.start + row_idx) * self.n_columns + self.first_column;
        // SAFETY: these columns of these rows are the strip's alone, and the strip is borrowed.
        unsafe { self.whole.range(start..start + self.width) }
    }
}

// SAFETY: a strip is its part of a `&mut [T]`.
unsafe impl<T: Send> Send for Strip<'_, T> {}

// SAFETY: parts of pairs are pairs of parts.
unsafe impl<A: Split, B: Split> Split for (A, B) {
    type Part = (A::Part, B::Part);

    fn n_parts(&self) -> usize {
        self.0.n_parts().min(self.1.n_parts())
    }

    unsafe fn part(&self, part_idx: usize) -> Self::Part {
        // SAFETY: as the caller's.
        unsafe { (self.0.part(part_idx), self.1.part(part_idx)) }
    }
}
