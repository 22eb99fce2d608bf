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
    const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::I32, Self::I64];

    /// None for a type that no supported weight has.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// As safetensors spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::I32 => "I32",
            Self::I64 => "I64",
        }
    }

    pub fn is_float(self) -> bool {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => true,
            Self::I32 | Self::I64 => false,
        }
    }

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

    /// The place of the first float that is infinite or no number.
    pub fn first_not_finite(&self) -> Option<usize> {
        let mut values = [0.0; 256];
        let n_elements = self.n_elements();
        (0..n_elements).step_by(values.len()).find_map(|first| {
            let values = &mut values[..256.min(n_elements - first)];
            self.read_floats(first, values);
            values.iter().position(|value| !value.is_finite()).map(|place| first + place)
        })
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
                    *value = widen(u16::from_le_bytes(*bytes));
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

/// A half as a single. Without a branch or a call, so that loops over it become vector instructions.
fn widen(half: u16) -> f32 {
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    // The exponent's bits are moved to where a single has them and then raised by 112, the difference of
    // the biases, in a multiplication: that is right for subnormal halves, too.
    let number = (f32::from_bits(rest << 13) * f32::from_bits((127 + 112) << 23)).to_bits();
    let unbounded = if rest >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(sign | number | unbounded)
}

#[cfg(test)]
mod tests;
