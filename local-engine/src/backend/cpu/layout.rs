//! Weights as the kernels read them: once, from front to back, in vectors of 64 bytes.
//!
//! Multiplies nothing. A matrix is cut into rows of sixteen outputs, and a row of tiles is
//!
//! ```text
//!   for each chunk of inputs:
//!     weights   for each block of 16 inputs: 2 vectors of nibbles, or 4 of bytes
//!                 nibbles: byte 4 * out + i of vector v is input 8v + i (low) and 8v + 4 + i (high)
//!                 bytes:   byte 4 * out + i of vector v is input 4v + i, plus 128
//!     scales    16 in f16, and for nibbles 16 zeros in bytes
//!   unit        an f32, a power of two that all scales of the row are multiplied by
//! ```
//!
//! Scales stand among the weights because memory is fastest in one stream; that vectors then lie across
//! cache lines costs nothing that could be measured. A nibble times a signed activation is what one VNNI instruction does.
//! Scales are normalised by their unit, so f16 holds those of any float type exactly that lie within 29
//! binary orders of the greatest.
//!
//! Invariants: outputs past the edge have scale zero; bytes are 1 to 255, so none is -128 when centred.

use std::ops::Range;

use half::f16;

use super::simd::{LANES, Lanes};
use crate::backend::BackendError;
use crate::weights::{Int4Matrix, Int4Tile, Linear, Matrix, Tensor};

/// Inputs in a block: those that an activation's scale is for.
pub(crate) const BLOCK: usize = 16;

/// The fewest inputs that share a weight's scale; matrices are multiples of it.
pub(crate) const MIN_CHUNK: usize = 32;

/// The most inputs that share a weight's scale; longer groups are cut.
pub(crate) const MAX_CHUNK: usize = 128;

/// Tile rows that are packed at once: as many as a cache line of AWQ's words is wide.
pub(crate) const PACKED_AT_ONCE: usize = 8;

const VECTOR: usize = 64;

/// Room for the unit; a multiple of sixteen, so that scales never lie across cache lines.
pub(crate) const UNIT_BYTES: usize = 16;

/// How a weight is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Int4,
    Int8,
}

/// Where a matrix lies in the backend's memory, and how.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) width: Width,
    pub(crate) n_in: usize,
    pub(crate) n_out: usize,
    /// Inputs that share a scale: 32, 64 or 128.
    pub(crate) chunk: usize,
    pub(crate) offset: usize,
}

/// Consecutive tile rows of a matrix.
#[derive(Clone, Copy)]
pub(crate) struct TileRows<'a> {
    pub(crate) width: Width,
    /// Blocks in a chunk.
    pub(crate) chunk_blocks: usize,
    /// Chunks in a tile row.
    pub(crate) n_chunks: usize,
    pub(crate) bytes: &'a [u8],
}

impl<'a> TileRows<'a> {
    pub(crate) fn n_tiles(&self) -> usize {
        self.bytes.len() / self.tile_bytes()
    }

    pub(crate) fn tile_bytes(&self) -> usize {
        self.n_chunks * self.width.chunk_bytes(self.chunk_blocks) + UNIT_BYTES
    }

    /// The weights and the scales of a chunk.
    pub(crate) fn chunk(&self, tile_idx: usize, chunk_idx: usize) -> (&'a [u8], &'a [u8]) {
        let n_bytes = self.width.chunk_bytes(self.chunk_blocks);
        let chunk = &self.bytes[tile_idx * self.tile_bytes() + chunk_idx * n_bytes..][..n_bytes];
        chunk.split_at(self.chunk_blocks * self.width.block_bytes())
    }

    /// What all scales of a tile row are multiplied by.
    pub(crate) fn unit(&self, tile_idx: usize) -> f32 {
        let end = (tile_idx + 1) * self.tile_bytes();
        f32::from_le_bytes(
            *self.bytes[end - UNIT_BYTES..].first_chunk().expect("a tile row ends in its unit"),
        )
    }
}

/// The longest chunk that a matrix can have.
pub(crate) fn chunk_of(linear: &Linear) -> Result<usize, BackendError> {
    let group_size = match &linear.matrix {
        Matrix::Float(_) => linear.n_in,
        Matrix::Int4(matrix) => matrix.group_size,
    };
    if linear.n_in == 0 || group_size == 0 || !group_size.is_multiple_of(MIN_CHUNK) {
        return Err(BackendError::Unsupported(format!(
            "`{}` has {} inputs in groups of {group_size}; the CPU computes multiples of {MIN_CHUNK}",
            linear.name, linear.n_in
        )));
    }
    let chunks = [MAX_CHUNK, MAX_CHUNK / 2].into_iter();
    Ok(chunks.into_iter().find(|chunk| group_size.is_multiple_of(*chunk)).unwrap_or(MIN_CHUNK))
}

impl Packed {
    /// The plan of a matrix at a place; `chunk` divides what `chunk_of` says.
    pub(crate) fn plan(linear: &Linear, chunk: usize, offset: usize) -> Self {
        let width = match linear.matrix {
            Matrix::Float(_) => Width::Int8,
            Matrix::Int4(_) => Width::Int4,
        };
        Self { width, n_in: linear.n_in, n_out: linear.n_out, chunk, offset }
    }

    pub(crate) fn n_tiles(&self) -> usize {
        self.n_out.div_ceil(LANES)
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.n_tiles() * self.tile_bytes()
    }

    pub(crate) fn tile_bytes(&self) -> usize {
        self.n_in / self.chunk * self.chunk_bytes() + UNIT_BYTES
    }

    fn chunk_bytes(&self) -> usize {
        self.width.chunk_bytes(self.chunk / BLOCK)
    }

    /// Where the scales of a chunk are in a tile row.
    fn scales_at(&self, chunk_idx: usize) -> usize {
        (chunk_idx + 1) * self.chunk_bytes() - self.width.scale_bytes()
    }

    pub(crate) fn tile_rows<'a>(&self, memory: &'a [u8], tiles: Range<usize>) -> TileRows<'a> {
        let n_bytes = tiles.len() * self.tile_bytes();
        TileRows {
            width: self.width,
            chunk_blocks: self.chunk / BLOCK,
            n_chunks: self.n_in / self.chunk,
            bytes: &memory[self.offset + tiles.start * self.tile_bytes()..][..n_bytes],
        }
    }

    /// Writes the tile rows from `first_tile` on, as many as `bytes` has room for.
    pub(crate) fn pack(&self, linear: &Linear, first_tile: usize, bytes: &mut [u8]) {
        match &linear.matrix {
            Matrix::Int4(matrix) => self.pack_int4(matrix, first_tile, bytes),
            Matrix::Float(tensor) => {
                for (idx, tile_row) in bytes.chunks_exact_mut(self.tile_bytes()).enumerate() {
                    self.pack_float(tensor, first_tile + idx, tile_row);
                }
            }
        }
    }

    /// Group by group over all of the tile rows, because neighbours share AWQ's cache lines.
    fn pack_int4(&self, matrix: &Int4Matrix, first_tile: usize, bytes: &mut [u8]) {
        let n_tiles = bytes.len() / self.tile_bytes();
        let mut tile = Int4Tile::new(matrix.group_size);
        let mut scales = vec![Vec::new(); n_tiles];
        for group_idx in 0..matrix.n_groups() {
            for (idx, tile_row) in bytes.chunks_exact_mut(self.tile_bytes()).enumerate() {
                matrix.read_tile((first_tile + idx) * LANES, group_idx, &mut tile);
                for first_in in (0..matrix.group_size).step_by(self.chunk) {
                    let at = scales[idx].len() * self.chunk_bytes();
                    let of_chunk = first_in..first_in + self.chunk;
                    pack_nibbles(&tile.q, matrix.group_size, of_chunk, &mut tile_row[at..]);
                    let zeros_at = self.scales_at(scales[idx].len()) + 2 * LANES;
                    tile_row[zeros_at..][..LANES].copy_from_slice(&tile.zeros);
                    scales[idx].push(tile.scales);
                }
            }
        }
        for (tile_row, scales) in bytes.chunks_exact_mut(self.tile_bytes()).zip(&scales) {
            let unit = unit_of(scales.iter().flatten().fold(0.0, |most, scale| most.max(scale.abs())));
            self.write_scales(scales, unit, tile_row);
        }
    }

    fn pack_float(&self, tensor: &Tensor, tile_idx: usize, tile_row: &mut [u8]) {
        let mut rows = vec![0.0; LANES * self.n_in];
        let first_out = tile_idx * LANES;
        let n_outs = LANES.min(self.n_out - first_out);
        tensor.read_floats(first_out * self.n_in, &mut rows[..n_outs * self.n_in]);
        let greatest = |values: &[f32]| values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let unit = unit_of(greatest(&rows) / 127.0);
        let mut scales = Vec::with_capacity(self.n_in / self.chunk);
        for chunk_idx in 0..self.n_in / self.chunk {
            let first_in = chunk_idx * self.chunk;
            let of_out = |out: usize| &rows[out * self.n_in + first_in..][..self.chunk];
            let rounded = |out| f16::from_f32(greatest(of_out(out)) / 127.0 / unit).to_f32() * unit;
            let of_chunk: Lanes = std::array::from_fn(rounded);
            for (out, scale) in of_chunk.into_iter().enumerate() {
                let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                let vectors = tile_row[chunk_idx * self.chunk_bytes()..].chunks_exact_mut(VECTOR);
                for (four, vector) in of_out(out).as_chunks::<4>().0.iter().zip(vectors) {
                    vector[out * 4..][..4].copy_from_slice(&four.map(|weight| byte_of(weight * inverse)));
                }
            }
            scales.push(of_chunk);
        }
        self.write_scales(&scales, unit, tile_row);
    }

    fn write_scales(&self, scales: &[Lanes], unit: f32, tile_row: &mut [u8]) {
        for (chunk_idx, scales) in scales.iter().enumerate() {
            let (pairs, _) = tile_row[self.scales_at(chunk_idx)..][..2 * LANES].as_chunks_mut::<2>();
            for (pair, scale) in pairs.iter_mut().zip(scales) {
                *pair = f16::from_f32(scale / unit).to_le_bytes();
            }
        }
        let unit_at = tile_row.len() - UNIT_BYTES;
        tile_row[unit_at..][..size_of::<f32>()].copy_from_slice(&unit.to_le_bytes());
    }
}

impl Width {
    /// What the scales of a chunk take, zeros included.
    pub(crate) fn scale_bytes(self) -> usize {
        match self {
            Self::Int4 => 3 * LANES,
            Self::Int8 => 2 * LANES,
        }
    }

    fn chunk_bytes(self, n_blocks: usize) -> usize {
        n_blocks * self.block_bytes() + self.scale_bytes()
    }

    /// What the weights of a block take, for sixteen outputs.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::Int4 => LANES * BLOCK / 2,
            Self::Int8 => LANES * BLOCK,
        }
    }
}

/// The nearest whole number within 127 of zero, plus 128. Above 1.5 * 2^23 floats are whole numbers, and the
/// lowest bits are theirs: many times faster than rounding on a processor that nothing is known of.
fn byte_of(steps: f32) -> u8 {
    let whole = steps.clamp(-127.0, 127.0) + 12_582_912.0;
    (whole.to_bits() as u8).wrapping_add(128)
}

/// The power of two that brings the greatest scale to the upper end of f16's normal numbers.
fn unit_of(greatest_scale: f32) -> f32 {
    if greatest_scale < f32::MIN_POSITIVE {
        return 1.0;
    }
    let exponent = (greatest_scale.to_bits() >> 23) as i32 - 127;
    f32::from_bits(((exponent - 14).max(-126) + 127) as u32 * (1 << 23))
}

/// Some inputs of `q[out * n_in + input]` into vectors of eight inputs each.
fn pack_nibbles(q: &[u8], n_in: usize, inputs: Range<usize>, vectors: &mut [u8]) {
    for (first_in, vector) in inputs.step_by(8).zip(vectors.chunks_exact_mut(VECTOR)) {
        for (out, bytes) in vector.chunks_exact_mut(4).enumerate() {
            let eight = &q[out * n_in + first_in..][..8];
            for (input, byte) in bytes.iter_mut().enumerate() {
                *byte = eight[input] | eight[4 + input] << 4;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
