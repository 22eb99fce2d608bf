//! Rows of bytes of equal length in one piece of memory, on large pages where there are many.
//!
//! A scan of 40 MB waits for memory, and half of that for the tables of small pages.
//!
//! Invariants: memory that was never written is never touched; a machine without large pages is slower
//! and nothing else.

use memmap2::MmapMut;

/// Where the pages of the processor's tables no longer hold all rows.
const LARGE_BYTES: usize = 4 << 20;
const LARGE_PAGE_BYTES: usize = 2 << 20;

pub(super) struct Codes {
    stride: usize,
    memory: Memory,
    n_bytes: usize,
}

enum Memory {
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

impl Memory {
    fn of_bytes(n_bytes: usize) -> Self {
        if n_bytes >= LARGE_BYTES
            && let Ok(mapping) = MmapMut::map_anon(n_bytes.next_multiple_of(LARGE_PAGE_BYTES))
        {
            // It is advice: where there are no large pages, small ones do.
            #[cfg(target_os = "linux")]
            let _ = mapping.advise(memmap2::Advice::HugePage);
            return Self::Mapped(mapping);
        }
        Self::Heap(vec![0; n_bytes])
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(mapping) => mapping,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(mapping) => mapping,
        }
    }
}

impl Codes {
    pub(super) fn of_stride(stride: usize) -> Self {
        Self { stride, memory: Memory::Heap(Vec::new()), n_bytes: 0 }
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// All rows, one after another.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory.bytes()[..self.n_bytes]
    }

    /// A new last row, all zeros, to be written.
    pub(super) fn push(&mut self) -> &mut [u8] {
        let end = self.n_bytes + self.stride;
        if end > self.memory.bytes().len() {
            self.resize(2 * end);
        }
        let row = &mut self.memory.bytes_mut()[self.n_bytes..end];
        row.fill(0);
        self.n_bytes = end;
        row
    }

    /// The last row takes the place of the one that goes.
    pub(super) fn swap_remove(&mut self, idx: usize) {
        let last = self.n_bytes - self.stride;
        self.memory.bytes_mut().copy_within(last..self.n_bytes, idx * self.stride);
        self.n_bytes = last;
        if self.memory.bytes().len() > LARGE_BYTES.max(4 * self.n_bytes) {
            self.resize(2 * self.n_bytes);
        }
    }

    fn resize(&mut self, n_bytes: usize) {
        let mut memory = Memory::of_bytes(n_bytes);
        memory.bytes_mut()[..self.n_bytes].copy_from_slice(self.bytes());
        self.memory = memory;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRIDE: usize = 1 << 16;

    #[test]
    fn rows_stay_what_they_were_while_memory_grows_and_shrinks() {
        let mut codes = Codes::of_stride(STRIDE);
        let mut expected: Vec<u8> = Vec::new();

        for n in 0..200_u8 {
            let row = codes.push();
            assert!(row.iter().all(|byte| *byte == 0), "a new row is empty");
            row.fill(n);
            expected.push(n);
        }
        assert!(matches!(codes.memory, Memory::Mapped(_)));
        for idx in [199, 0, 5].into_iter().chain(std::iter::repeat_n(1, 190)) {
            codes.swap_remove(idx);
            expected.swap_remove(idx);
            let firsts: Vec<u8> = codes.bytes().chunks(STRIDE).map(|row| row[STRIDE - 1]).collect();
            assert_eq!(firsts, expected);
        }
        assert!(codes.memory.bytes().len() <= LARGE_BYTES, "what is not needed is given back");
    }
}
