//! What is not quantised becomes f16, as AutoAWQ has it.
//!
//! Rounds; scales nothing.
//!
//! Invariants: what comes out is finite: bf16 and f32 hold numbers that f16 does not, and those are refused.

use half::f16;

use super::QuantiseError;
use super::dense::Dense;
use super::layer::{Layer, Norm};
use crate::weights::{Dtype, Int4Matrix, LayerWeights, Linear, Matrix, Tensor};

/// A tensor of floats in f16. The name is for errors.
pub(super) fn tensor(name: &str, tensor: &Tensor) -> Result<Tensor, QuantiseError> {
    if tensor.dtype == Dtype::F16 {
        return Ok(tensor.clone());
    }
    let mut bytes = Vec::with_capacity(2 * tensor.n_elements());
    let mut values = [0.0; 1024];
    for first in (0..tensor.n_elements()).step_by(values.len()) {
        let values = &mut values[..1024.min(tensor.n_elements() - first)];
        tensor.read_floats(first, values);
        push(name, values, &mut bytes)?;
    }
    Ok(Tensor { dtype: Dtype::F16, shape: tensor.shape.clone(), bytes: bytes.into() })
}

/// The layer with its matrices quantised: q, k, v, o, gate, up and down.
pub(super) fn layer(layer: &Layer, matrices: Vec<Int4Matrix>) -> Result<LayerWeights, QuantiseError> {
    let [q, k, v, o, gate, up, down]: [Int4Matrix; 7] =
        matrices.try_into().expect("a layer has seven matrices");
    let prefix = layer.q.name.trim_end_matches("self_attn.q_proj");
    let norm = |module: &str, norm: &Norm| vector(&format!("{prefix}{module}.weight"), &norm.weights);
    let head_norm = |module, of: &Option<Norm>| of.as_ref().map(|of| norm(module, of)).transpose();
    Ok(LayerWeights {
        attention_norm: norm("input_layernorm", &layer.attention_norm)?,
        q: linear(&layer.q, q)?,
        k: linear(&layer.k, k)?,
        v: linear(&layer.v, v)?,
        o: linear(&layer.o, o)?,
        q_norm: head_norm("self_attn.q_norm", &layer.q_norm)?,
        k_norm: head_norm("self_attn.k_norm", &layer.k_norm)?,
        mlp_norm: norm("post_attention_layernorm", &layer.mlp_norm)?,
        gate: linear(&layer.gate, gate)?,
        up: linear(&layer.up, up)?,
        down: linear(&layer.down, down)?,
    })
}

fn linear(dense: &Dense, matrix: Int4Matrix) -> Result<Linear, QuantiseError> {
    let bias = dense.bias.as_ref().map(|bias| vector(&format!("{}.bias", dense.name), bias)).transpose()?;
    Ok(Linear { bias, ..Linear::new(&dense.name, dense.n_in, dense.n_out, Matrix::Int4(matrix)) })
}

fn vector(name: &str, values: &[f32]) -> Result<Tensor, QuantiseError> {
    let mut bytes = Vec::with_capacity(2 * values.len());
    push(name, values, &mut bytes)?;
    Ok(Tensor { dtype: Dtype::F16, shape: vec![values.len()], bytes: bytes.into() })
}

fn push(name: &str, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), QuantiseError> {
    for value in values {
        let half = f16::from_f32(*value);
        if !half.is_finite() {
            let what = format!("has {value}, which f16 cannot hold; serve the float checkpoint");
            return Err(QuantiseError::Tensor { tensor: name.to_owned(), what });
        }
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    Ok(())
}
