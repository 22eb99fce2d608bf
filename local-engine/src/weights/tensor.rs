//! Numbers in row-major order, in a mapped file or in memory.
//!
//! Invariants: none of its own; whoever makes a tensor has compared shape and length.

use bytes::Bytes;
use half::{bf16, f16};

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
    I32,
    I64,
}

impl Dtype {
    pub fn size_bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

/// Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Little-endian, not aligned.
    pub bytes: Bytes,
}

impl Tensor {
    pub fn of_f32(shape: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes: bytes.into() }
    }

    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The number at a place, of a tensor of floats; an integer's is its value.
    ///
    /// # Panics
    ///
    /// When there is no such place.
    pub fn float(&self, idx: usize) -> f32 {
        match self.dtype {
            Dtype::F32 => f32::from_le_bytes(self.at(idx)),
            Dtype::F16 => f16::from_le_bytes(self.at(idx)).to_f32(),
            Dtype::Bf16 => bf16::from_le_bytes(self.at(idx)).to_f32(),
            Dtype::I32 => i32::from_le_bytes(self.at(idx)) as f32,
            Dtype::I64 => i64::from_le_bytes(self.at(idx)) as f32,
        }
    }

    /// The four bytes at a place of a tensor of 32-bit numbers, as they are.
    pub fn word(&self, idx: usize) -> u32 {
        u32::from_le_bytes(self.at(idx))
    }

    /// Widens the numbers from `first` on into `values`.
    pub fn read_floats(&self, first: usize, values: &mut [f32]) {
        let size = self.dtype.size_bytes();
        let bytes = &self.bytes[first * size..][..values.len() * size];
        match self.dtype {
            Dtype::F16 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f16::from_le_bytes(*bytes).to_f32();
                }
            }
            Dtype::Bf16 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            Dtype::F32 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            Dtype::I32 | Dtype::I64 => {
                for (place, value) in values.iter_mut().enumerate() {
                    *value = self.float(first + place);
                }
            }
        }
    }

    /// All numbers.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.n_elements()];
        self.read_floats(0, &mut values);
        values
    }

    fn at<const N: usize>(&self, idx: usize) -> [u8; N] {
        *self.bytes[idx * N..].first_chunk().expect("an index lies in the tensor")
    }
}
