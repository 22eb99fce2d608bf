//! A float model becomes one of four bits: AutoAWQ's `gemm` form, a layer at a time.
//!
//! Has no device and no tokenizer: calibration text comes in as tokens, and everything is computed in f32 on
//! the CPU's threads. Serves nobody: an engine reads what comes out as it reads any checkpoint.
//!
//! What happens to a layer:
//!
//! 1. calibration sequences go through it in float, and what its matrices read is sampled (`calibration`);
//! 2. inputs that matter get scales (`scales`), which are folded into the operation before (`layer`);
//! 3. ranges are cut where that helps (`clip`), and the weights are rounded (`grid`).
//!
//! The next layer is calibrated on what the float layer gives, not the rounded one.
//!
//! Invariants: memory holds one layer in f32, some times over, whatever the model's size; what comes out
//! does not depend on the number of threads.

mod calibration;
pub mod checkpoint;
mod clip;
mod dense;
mod divergence;
#[cfg(test)]
mod fixtures;
mod grid;
mod halves;
mod layer;
mod rounding;
mod scales;
mod shards;
mod threads;

use std::path::PathBuf;

use serde::Serialize;

use self::calibration::{Calibration, Inputs};
pub use self::divergence::Divergence;
use self::layer::{Layer, Place};
use self::rounding::Rounding;
use crate::request::TokenId;
use crate::weights::awq::N_PACKED;
use crate::weights::{LayerWeights, Linear, Matrix, Weights, WeightsError};

/// How a model is to be quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub group_size: GroupSize,
    pub method: Method,
    pub n_threads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Every weight to the nearest level of its group.
    Nearest,
    /// With scales and clipping that are searched on calibration text.
    ActivationAware,
}

/// Inputs that share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSize(usize);

impl GroupSize {
    pub const ALL: [Self; 3] = [Self(32), Self(64), Self(128)];

    pub fn try_new(size: usize) -> Result<Self, QuantiseError> {
        Self::ALL.into_iter().find(|of| of.0 == size).ok_or(QuantiseError::GroupSize { size })
    }

    pub fn get(self) -> usize {
        self.0
    }
}

/// Why a model cannot be quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantiseError {
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("a group of {size} inputs is not supported; groups of 32, 64 and 128 are")]
    GroupSize { size: usize },
    #[error("`{what}` says the checkpoint is quantised already; give the float checkpoint it was made from")]
    AlreadyQuantised { what: String },
    #[error("tensor `{tensor}`: {what}")]
    Tensor { tensor: String, what: String },
    #[error("the calibration text {0}")]
    Calibration(String),
    #[error("{path}: {what}")]
    Output { path: PathBuf, what: String },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    pub layer_idx: usize,
    /// q, k, v, o, gate, up and down.
    pub modules: Vec<ModuleReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleReport {
    pub name: String,
    pub n_weights: usize,
    /// What the scales were found with; None where none were searched.
    pub alpha: Option<f32>,
    /// The share of groups whose range was cut.
    pub clipped_share: Option<f64>,
    /// None without calibration text.
    pub errors: Option<OutputErrors>,
}

/// `|Wx - W'x| / |Wx|` over held-out tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutputErrors {
    /// Of rounding to nearest.
    pub nearest: f64,
    /// Of what was kept.
    pub kept: f64,
}

/// Quantises a model's layers from first to last.
#[derive(Debug)]
pub struct Quantiser<'a> {
    weights: &'a Weights,
    options: Options,
    calibration: Option<Calibration>,
    n_done: usize,
}

impl<'a> Quantiser<'a> {
    /// Calibration text, a sequence of tokens each, is needed to be aware of activations; where it is there,
    /// errors are measured, too.
    pub fn new(
        weights: &'a Weights,
        options: Options,
        texts: Option<&[Vec<TokenId>]>,
    ) -> Result<Self, QuantiseError> {
        check(weights, options.group_size)?;
        if texts.is_none() && options.method == Method::ActivationAware {
            let what = "is missing; give some, or round to nearest".to_owned();
            return Err(QuantiseError::Calibration(what));
        }
        let mut calibration =
            texts.map(|texts| Calibration::new(&weights.hparams, &weights.embedding, texts)).transpose()?;
        if options.method == Method::Nearest {
            calibration.iter_mut().for_each(Calibration::keep_held);
        }
        Ok(Self { weights, options, calibration, n_done: 0 })
    }

    /// None after the last one.
    pub fn next_layer(&mut self) -> Result<Option<(LayerWeights, LayerReport)>, QuantiseError> {
        let Some(weights) = self.weights.layers.get(self.n_done) else { return Ok(None) };
        let (hparams, n_threads) = (&self.weights.hparams, self.options.n_threads);
        check_finite(weights)?;
        let layer = Layer::new(hparams, self.n_done, weights);
        let inputs = self.calibration.as_mut().map(|calibration| calibration.inputs(&layer, n_threads));
        let (quantised, modules) = quantise(&layer, inputs.as_ref(), self.options)?;
        if let Some(calibration) = &mut self.calibration {
            calibration.pass_quantised(&Layer::new(hparams, self.n_done, &quantised), n_threads);
        }
        self.n_done += 1;
        Ok(Some((quantised, LayerReport { layer_idx: self.n_done - 1, modules })))
    }

    /// How far the quantised model's predictions are from the float one's; None without calibration text.
    /// After the last layer.
    pub fn divergence(&self) -> Option<Divergence> {
        let calibration = self.calibration.as_ref()?;
        Some(divergence::measure(self.weights, &calibration.sequences, self.options.n_threads))
    }
}

fn quantise(
    layer: &Layer,
    inputs: Option<&[Inputs; 4]>,
    options: Options,
) -> Result<(LayerWeights, Vec<ModuleReport>), QuantiseError> {
    let places = Place::ALL.map(|place| {
        let inputs = inputs.map(|inputs| &inputs[place as usize]);
        Rounding::new(layer, place, inputs, options)
    });
    let mut folded = layer.clone();
    for (place, rounding) in Place::ALL.into_iter().zip(&places) {
        folded.fold(place, rounding.scales());
    }
    let mut rounded = Vec::new();
    for (place, rounding) in Place::ALL.into_iter().zip(&places) {
        for (exact, folded) in layer.readers(place).into_iter().zip(folded.readers(place)) {
            rounded.push(rounding.round(exact, folded)?);
        }
    }
    let (matrices, reports) = rounded.into_iter().unzip();
    Ok((halves::layer(&folded, matrices)?, reports))
}

/// Whether the model can be quantised at all, before hours are spent on it.
fn check(weights: &Weights, group_size: GroupSize) -> Result<(), QuantiseError> {
    for linear in weights.layers.iter().flat_map(linears).chain(&weights.head) {
        if let Matrix::Int4(_) = linear.matrix {
            return Err(QuantiseError::AlreadyQuantised { what: format!("{}.qweight", linear.name) });
        }
    }
    weights.layers.iter().flat_map(linears).try_for_each(|linear| check_shape(linear, group_size))
}

fn linears(layer: &LayerWeights) -> [&Linear; 7] {
    [&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down]
}

fn check_shape(linear: &Linear, group_size: GroupSize) -> Result<(), QuantiseError> {
    let Linear { n_in, n_out, .. } = linear;
    let wrong = |what| Err(QuantiseError::Tensor { tensor: format!("{}.weight", linear.name), what });
    if !n_out.is_multiple_of(N_PACKED) {
        return wrong(format!(
            "has {n_out} outputs, which {N_PACKED} does not divide: AutoAWQ has no form for that; serve the float checkpoint"
        ));
    }
    if !n_in.is_multiple_of(group_size.get()) {
        let fitting: Vec<String> = GroupSize::ALL
            .into_iter()
            .filter(|size| n_in.is_multiple_of(size.get()))
            .map(|size| size.get().to_string())
            .collect();
        let remedy = match fitting.is_empty() {
            true => "no supported group does; serve the float checkpoint".to_owned(),
            false => format!("groups of {} do", fitting.join(" and ")),
        };
        let size = group_size.get();
        return wrong(format!("has {n_in} inputs, which groups of {size} do not divide; {remedy}"));
    }
    Ok(())
}

fn check_finite(weights: &LayerWeights) -> Result<(), QuantiseError> {
    for linear in linears(weights) {
        if let Matrix::Float(tensor) = &linear.matrix
            && let Some(idx) = tensor.first_not_finite()
        {
            let what = format!("has {} at place {idx}; the checkpoint is damaged", tensor.float(idx));
            return Err(QuantiseError::Tensor { tensor: format!("{}.weight", linear.name), what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
