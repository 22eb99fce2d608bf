//! Arrays that begin at a cache line and keep their memory.
//!
//! Two threads that write neighbouring parts then write no line in common, as long as the parts are whole
//! lines: a line that goes back and forth costs more than what is written to it.
//!
//! Invariants: `len` elements lie behind `first`, which is at a cache line.

/// Bytes that processors keep together.
const LINE: usize = 64;

/// A vector, moved up to the next line.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    values: Vec<T>,
    first: usize,
    len: usize,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { values: Vec::new(), first: 0, len: 0 }
    }
}

impl<T: Copy> Aligned<T> {
    /// Makes it so long; what is in it afterwards is what was there, moved or not, or `value`.
    pub(crate) fn resize(&mut self, len: usize, value: T) {
        let n_more = LINE / size_of::<T>();
        if self.values.len() < len + n_more {
            self.values.resize(len + n_more, value);
            self.first = self.values.as_ptr().align_offset(LINE).min(n_more);
        }
        self.len = len;
    }
}

impl<T> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.first..][..self.len]
    }
}

impl<T> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.first..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_begins_at_a_line_and_keeps_its_memory_when_it_shrinks() {
        let mut values = Aligned::default();
        for len in [0, 1, 15, 16, 17, 1_000, 10_000, 3] {
            values.resize(len, 1.0_f32);

            assert_eq!(values.len(), len);
            assert!((values.as_ptr() as usize).is_multiple_of(LINE) || len == 0);
            values.fill(2.0);
        }

        values.resize(10_000, 1.0);

        assert!(values.iter().all(|value| *value == 2.0));
    }
}
