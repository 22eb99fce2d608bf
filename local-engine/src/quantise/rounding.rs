//! What is decided for the matrices that read at one place, and what it costs their outputs.
//!
//! Folds nothing: the layer does, when all its places have been decided.
//!
//! Invariants: errors are measured on held-out tokens, with the matrix as it will be stored.

use super::calibration::Inputs;
use super::dense::{Dense, Panels};
use super::layer::{Layer, Place};
use super::scales::{self, Scales};
use super::{Method, ModuleReport, Options, OutputErrors, QuantiseError, clip, grid, threads};
use crate::weights::Int4Matrix;

/// Rows that one task takes.
const TASK_ROWS: usize = 64;

#[derive(Debug)]
pub(super) struct Rounding<'a> {
    options: Options,
    inputs: Option<&'a Inputs>,
    scales: Scales,
}

impl<'a> Rounding<'a> {
    pub(super) fn new(layer: &Layer, place: Place, inputs: Option<&'a Inputs>, options: Options) -> Self {
        let readers = layer.readers(place);
        let scales = match (options.method, inputs) {
            (Method::ActivationAware, Some(inputs)) => {
                let mean_abs = layer.foldable(place, &inputs.mean_abs);
                scales::search(&readers, &mean_abs, &inputs.searched, options)
            }
            (Method::ActivationAware, None) | (Method::Nearest, _) => Scales::none(readers[0].n_in),
        };
        Self { options, inputs, scales }
    }

    pub(super) fn scales(&self) -> &[f32] {
        &self.scales.of_inputs
    }

    /// Rounds a matrix into which the scales are folded; `exact` is the same without them.
    pub(super) fn round(
        &self,
        exact: &Dense,
        folded: &Dense,
    ) -> Result<(Int4Matrix, ModuleReport), QuantiseError> {
        let Options { group_size, n_threads, .. } = self.options;
        let aware = self.inputs.filter(|_| self.options.method == Method::ActivationAware);
        let shrinks = aware.and_then(|inputs| {
            clip::search(folded, &inputs.searched.divided(self.scales()), group_size.get(), n_threads)
        });
        let matrix = grid::quantise(folded, group_size.get(), shrinks.as_deref(), n_threads)?;
        let clipped_share = |shrinks: &Vec<f32>| {
            shrinks.iter().filter(|shrink| **shrink < 1.0).count() as f64 / shrinks.len() as f64
        };
        let report = ModuleReport {
            name: folded.name.clone(),
            n_weights: folded.rows.len(),
            alpha: aware.map(|_| self.scales.alpha),
            clipped_share: aware.map(|_| shrinks.as_ref().map_or(0.0, clipped_share)),
            errors: self.inputs.map(|inputs| self.errors(inputs, exact, folded, &matrix)),
        };
        Ok((matrix, report))
    }

    fn errors(&self, inputs: &Inputs, exact: &Dense, folded: &Dense, matrix: &Int4Matrix) -> OutputErrors {
        let n_threads = self.options.n_threads;
        let mut nearest = exact.rows.clone();
        for row in nearest.chunks_exact_mut(exact.n_in) {
            grid::snap_row(row, self.options.group_size.get());
        }
        let divided = inputs.held.divided(self.scales());
        OutputErrors {
            nearest: relative_error(exact, &nearest, &inputs.held, n_threads),
            kept: relative_error(folded, &matrix.to_f32(), &divided, n_threads),
        }
    }
}

/// `|Wx - W'x| / |Wx|`
fn relative_error(exact: &Dense, rounded: &[f32], x: &Panels, n_threads: usize) -> f64 {
    let energies = threads::map(n_threads, exact.n_out.div_ceil(TASK_ROWS), |task_idx| {
        let at = task_idx * TASK_ROWS * exact.n_in;
        let n = (TASK_ROWS * exact.n_in).min(exact.rows.len() - at);
        let (exact, rounded) = (&exact.rows[at..][..n], &rounded[at..][..n]);
        let lost: Vec<f32> = exact.iter().zip(rounded).map(|(exact, rounded)| exact - rounded).collect();
        (x.energy(&lost), x.energy(exact))
    });
    let (of_lost, of_exact) = energies.into_iter().fold((0.0, 0.0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    // A matrix that gives nothing, loses nothing.
    if of_exact == 0.0 { 0.0 } else { (of_lost / of_exact).sqrt() }
}
