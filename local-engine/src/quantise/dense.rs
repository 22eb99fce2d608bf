//! Matrices in f32 and the many tokens that go through them at once.
//!
//! Quantises nothing. The reference backend has its own: it takes one token at a time, on purpose, and a
//! search over twenty candidates of every matrix would last days that way.
//!
//! There is nothing in it that only some processors have: a build with `-C target-cpu=native` is several times
//! as fast, because the compiler then takes wider vectors for the same loops.
//!
//! Invariants: a product's bits depend on its row and its token alone, not on what is computed beside them.

use crate::weights::{Linear, Matrix, Tensor};

/// Tokens that are multiplied together.
const LANES: usize = 16;

/// Rows that are multiplied together: so many that their sums fill the registers, and no more.
const ROWS: usize = if cfg!(target_feature = "avx2") { 4 } else { 2 };

/// Numbers of some tokens, one token after another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rows {
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
}

impl Rows {
    pub(super) fn zeros(n_tokens: usize, width: usize) -> Self {
        Self { width, values: vec![0.0; n_tokens * width] }
    }

    pub(super) fn n_tokens(&self) -> usize {
        self.values.len() / self.width
    }

    pub(super) fn row(&self, token_idx: usize) -> &[f32] {
        &self.values[token_idx * self.width..][..self.width]
    }

    pub(super) fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.width)
    }

    pub(super) fn add(&mut self, term: &Self) {
        for (sum, term) in self.values.iter_mut().zip(&term.values) {
            *sum += term;
        }
    }
}

/// Tokens laid out for multiplication: `[n_tokens / 16][width][16]`, the last ones filled up with zeros.
#[derive(Debug, Clone)]
pub(super) struct Panels {
    width: usize,
    values: Vec<[f32; LANES]>,
}

impl Panels {
    pub(super) fn new(rows: &Rows) -> Self {
        let n_panels = rows.n_tokens().div_ceil(LANES);
        let mut values = vec![[0.0; LANES]; n_panels * rows.width];
        for (token_idx, row) in rows.iter().enumerate() {
            let panel = &mut values[token_idx / LANES * rows.width..][..rows.width];
            for (lanes, value) in panel.iter_mut().zip(row) {
                lanes[token_idx % LANES] = *value;
            }
        }
        Self { width: rows.width, values }
    }

    /// With every input divided by its scale.
    pub(super) fn divided(&self, scales: &[f32]) -> Self {
        let mut divided = self.clone();
        for panel in divided.values.chunks_exact_mut(self.width) {
            for (lanes, scale) in panel.iter_mut().zip(scales) {
                *lanes = lanes.map(|value| value / scale);
            }
        }
        divided
    }

    /// The sum over all tokens of the squares of some rows' products with them.
    pub(super) fn energy(&self, rows: &[f32]) -> f64 {
        let square = |product: &f32| f64::from(product * product);
        let mut sum = 0.0;
        for panel in self.values.chunks_exact(self.width) {
            each_product(rows, panel, |_, products| sum += products.iter().map(square).sum::<f64>());
        }
        sum
    }

    /// The products of `n` inputs from `first` on with each other, summed over all tokens: `[n, n]`.
    pub(super) fn gram(&self, first: usize, n: usize) -> Vec<f32> {
        let mut sums = vec![0.0_f64; n * n];
        for panel in self.values.chunks_exact(self.width) {
            let inputs = &panel[first..][..n];
            for (sums, a) in sums.chunks_exact_mut(n).zip(inputs) {
                for (sum, b) in sums.iter_mut().zip(inputs) {
                    let mut products = [0.0; LANES];
                    for lane in 0..LANES {
                        products[lane] = a[lane] * b[lane];
                    }
                    *sum += f64::from(products.iter().sum::<f32>());
                }
            }
        }
        sums.into_iter().map(|sum| sum as f32).collect()
    }
}

/// Hands out the products of each row with sixteen tokens, with the row's place.
fn each_product(rows: &[f32], panel: &[[f32; LANES]], mut take: impl FnMut(usize, [f32; LANES])) {
    let n_in = panel.len();
    let together = rows.chunks_exact(ROWS * n_in);
    let n_together = together.len() * ROWS;
    for (row_idx, row) in together.remainder().chunks_exact(n_in).enumerate() {
        take(n_together + row_idx, products([row], panel)[0]);
    }
    for (chunk_idx, rows) in together.enumerate() {
        let rows: [&[f32]; ROWS] = std::array::from_fn(|row_idx| &rows[row_idx * n_in..][..n_in]);
        for (row_idx, of_row) in products(rows, panel).into_iter().enumerate() {
            take(chunk_idx * ROWS + row_idx, of_row);
        }
    }
}

fn products<const N: usize>(rows: [&[f32]; N], panel: &[[f32; LANES]]) -> [[f32; LANES]; N] {
    let rows = rows.map(|row| &row[..panel.len()]);
    let mut sums = [[0.0; LANES]; N];
    for (input, x) in panel.iter().enumerate() {
        for (row, sums) in rows.iter().zip(&mut sums) {
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum = add_product(row[input], *x, *sum);
            }
        }
    }
    sums
}

/// `a * b + c`, rounded once where there is an instruction for that: elsewhere it would be a call.
fn add_product(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_feature = "fma") { a.mul_add(b, c) } else { a * b + c }
}

/// `y = W x + b`, `W` row by row.
#[derive(Debug, Clone)]
pub(super) struct Dense {
    /// As in the checkpoint.
    pub(super) name: String,
    pub(super) n_in: usize,
    pub(super) n_out: usize,
    pub(super) rows: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
}

impl Dense {
    pub(super) fn new(linear: &Linear) -> Self {
        let rows = match &linear.matrix {
            Matrix::Float(tensor) => tensor.to_f32(),
            Matrix::Int4(matrix) => matrix.to_f32(),
        };
        let bias = linear.bias.as_ref().map(Tensor::to_f32);
        Self { name: linear.name.clone(), n_in: linear.n_in, n_out: linear.n_out, rows, bias }
    }

    pub(super) fn row(&self, out: usize) -> &[f32] {
        &self.rows[out * self.n_in..][..self.n_in]
    }

    pub(super) fn apply(&self, x: &Rows) -> Rows {
        let mut y = Rows::zeros(x.n_tokens(), self.n_out);
        let panels = Panels::new(x);
        let of_panel = panels.values.chunks_exact(self.n_in);
        for (panel, y) in of_panel.zip(y.values.chunks_mut(LANES * self.n_out)) {
            each_product(&self.rows, panel, |out, products| {
                let bias = self.bias.as_ref().map_or(0.0, |bias| bias[out]);
                for (y, product) in y.chunks_exact_mut(self.n_out).zip(products) {
                    y[out] = product + bias;
                }
            });
        }
        y
    }

    /// Multiplies every column by its input's scale.
    pub(super) fn scale_inputs(&mut self, scales: &[f32]) {
        for row in self.rows.chunks_exact_mut(self.n_in) {
            for (weight, scale) in row.iter_mut().zip(scales) {
                *weight *= scale;
            }
        }
    }

    /// Divides every output by its scale.
    pub(super) fn divide_outputs(&mut self, scales: &[f32]) {
        for (row, scale) in self.rows.chunks_exact_mut(self.n_in).zip(scales) {
            for weight in row {
                *weight /= scale;
            }
        }
        for (bias, scale) in self.bias.iter_mut().flatten().zip(scales) {
            *bias /= scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantise::fixtures::noise;

    #[test]
    fn products_are_those_of_the_definition_whatever_does_not_divide() {
        let (n_in, n_out, n_tokens) = (37, 5, 19);
        let rows = noise(n_in * n_out, 1);
        let bias = Some(noise(n_out, 2));
        let dense = Dense { name: "w".to_owned(), n_in, n_out, rows, bias };
        let x = Rows { width: n_in, values: noise(n_in * n_tokens, 3) };

        let y = dense.apply(&x);

        for (x, y) in x.iter().zip(y.iter()) {
            for (out, y) in y.iter().enumerate() {
                let product: f64 =
                    dense.row(out).iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                let expected = product + f64::from(dense.bias.as_ref().unwrap()[out]);
                assert!((f64::from(*y) - expected).abs() < 1e-5, "{y} and {expected}");
            }
        }
    }

    #[test]
    fn a_gram_block_gives_the_energy_of_its_inputs() {
        let x = Rows { width: 40, values: noise(40 * 21, 5) };
        let panels = Panels::new(&x);
        let mut row = vec![0.0; 40];
        row[8..24].copy_from_slice(&noise(16, 6));

        let gram = panels.gram(8, 16);

        let of_gram: f64 = (0..256)
            .map(|at| f64::from(gram[at]) * f64::from(row[8 + at / 16]) * f64::from(row[8 + at % 16]))
            .sum();
        let energy = panels.energy(&row);
        assert!((of_gram / energy - 1.0).abs() < 1e-5, "{of_gram} and {energy}");
    }
}
