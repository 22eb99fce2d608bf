//! Matrices and norms in f32, one vector at a time.
//!
//! Quantises nothing and knows no threads.
//!
//! Invariants: a sum is taken in an order that depends on its length alone.

use crate::weights::{Linear, Matrix, Tensor};

/// Sums run in as many lanes, which the compiler may keep in vector registers.
const LANES: usize = 16;

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// `y = W x + b`, `W` row by row.
#[derive(Debug)]
pub(super) struct Dense {
    n_in: usize,
    rows: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Dense {
    pub(super) fn new(linear: &Linear) -> Self {
        let rows = match &linear.matrix {
            Matrix::Float(tensor) => tensor.to_f32(),
            Matrix::Int4(matrix) => matrix.to_f32(),
        };
        Self { n_in: linear.n_in, rows, bias: linear.bias.as_ref().map(Tensor::to_f32) }
    }

    pub(super) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut y: Vec<f32> = self.rows.chunks_exact(self.n_in).map(|row| dot(row, x)).collect();
        if let Some(bias) = &self.bias {
            add(&mut y, bias);
        }
        y
    }
}

#[derive(Debug)]
pub(super) struct RmsNorm {
    weights: Vec<f32>,
    eps: f32,
}

impl RmsNorm {
    pub(super) fn new(weights: &Tensor, eps: f32) -> Self {
        Self { weights: weights.to_f32(), eps }
    }

    pub(super) fn apply(&self, x: &mut [f32]) {
        let mean_square = dot(x, x) / x.len() as f32;
        let factor = 1.0 / (mean_square + self.eps).sqrt();
        for (x, weight) in x.iter_mut().zip(&self.weights) {
            *x = weight * (*x * factor);
        }
    }

    pub(super) fn of(&self, x: &[f32]) -> Vec<f32> {
        let mut normed = x.to_vec();
        self.apply(&mut normed);
        normed
    }
}

pub(super) fn add(sum: &mut [f32], term: &[f32]) {
    for (sum, term) in sum.iter_mut().zip(term) {
        *sum += term;
    }
}
