//! Large zeroed arrays in pages of their own.
//!
//! Gives nothing back before the end: weights and KV pages live as long as the backend. How much there may
//! be of them is for `room`.
//!
//! Invariants: an array starts at a page, so at a cache line; all its numbers are zero at first.
#![expect(unsafe_code, reason = "bytes of a mapping are read as numbers")]

use std::marker::PhantomData;

use memmap2::MmapMut;

use super::room;
use crate::backend::BackendError;

/// Any bytes are a number of the type.
///
/// # Safety
///
/// The type has no padding and no forbidden bits, and is aligned to at most a page.
pub(crate) unsafe trait Number: Copy + Send + Sync + 'static {}

// SAFETY: every pattern of eight bits is a `u8`.
unsafe impl Number for u8 {}
// SAFETY: every pattern of eight bits is an `i8`.
unsafe impl Number for i8 {}
// SAFETY: every pattern of sixteen bits is a `u16`.
unsafe impl Number for u16 {}
// SAFETY: every pattern of 32 bits is an `f32`.
unsafe impl Number for f32 {}

/// A fixed number of numbers.
pub(crate) struct Memory<T> {
    /// None when it is empty: nothing cannot be mapped.
    bytes: Option<MmapMut>,
    len: usize,
    numbers: PhantomData<T>,
}

impl<T: Number> Memory<T> {
    pub(crate) fn empty() -> Self {
        Self { bytes: None, len: 0, numbers: PhantomData }
    }

    /// `what` is for the error of a system that has no more.
    pub(crate) fn zeroed(len: usize, what: &'static str) -> Result<Self, BackendError> {
        let n_bytes = len.saturating_mul(size_of::<T>());
        if n_bytes == 0 {
            return Ok(Self::empty());
        }
        let bytes = MmapMut::map_anon(n_bytes).map_err(|_| BackendError::OutOfMemory {
            what,
            needed_bytes: n_bytes as u64,
            available_bytes: room::available_bytes().unwrap_or(0),
        })?;
        // Streaming weights through pages of 4 KiB spends a third of the bandwidth on page walks. A kernel
        // that has no large pages says so, and is as right without them.
        #[cfg(target_os = "linux")]
        let _ = bytes.advise(memmap2::Advice::HugePage);
        Ok(Self { bytes: Some(bytes), len, numbers: PhantomData })
    }
}

impl<T: Number> std::ops::Deref for Memory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let Some(bytes) = &self.bytes else { return &[] };
        // SAFETY: the mapping is `len` numbers long, starts at a page, and any bytes are a number.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> std::ops::DerefMut for Memory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let Some(bytes) = &mut self.bytes else { return &mut [] };
        // SAFETY: as above, and the mapping is borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Number> std::fmt::Debug for Memory<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} numbers)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_and_as_long_as_was_asked() {
        let mut memory = Memory::<f32>::zeroed(5_000, "a test").unwrap();

        assert!(memory.iter().all(|value| *value == 0.0));
        memory[4_999] = 1.0;

        assert_eq!(memory.len(), 5_000);
        assert!((memory.as_ptr() as usize).is_multiple_of(64));
        assert_eq!(memory.iter().sum::<f32>(), 1.0);
        assert!(Memory::<u8>::zeroed(0, "nothing").unwrap().is_empty());
    }

    #[test]
    fn memory_nobody_has_is_an_error_with_its_size() {
        let error = Memory::<u16>::zeroed(usize::MAX / 4, "a test").unwrap_err();

        assert!(matches!(error, BackendError::OutOfMemory { what: "a test", needed_bytes, .. }
            if needed_bytes == (usize::MAX / 4 * 2) as u64));
    }
}
