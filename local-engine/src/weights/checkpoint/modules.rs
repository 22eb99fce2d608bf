//! One module's tensors, checked: a float matrix, AutoAWQ's, or compressed-tensors'.
//!
//! Knows no layer and no family: names and shapes come in.
//!
//! Invariants: a matrix that comes out can be read at every place without another check.

use crate::weights::awq::N_PACKED;
use crate::weights::config::{ModelConfig, Quantisation, Symmetry};
use crate::weights::int4::group_size_of;
use crate::weights::store::TensorStore;
use crate::weights::{Dtype, Int4Layout, Int4Matrix, Linear, Matrix, Tensor, WeightsError};

#[derive(Debug, Clone, Copy)]
pub(super) struct Modules<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) store: &'a TensorStore,
}

impl Modules<'_> {
    /// Floats of a shape, all of them numbers.
    pub(super) fn finite(&self, name: &str, shape: &[usize]) -> Result<Tensor, WeightsError> {
        let tensor = self.store.tensor(name)?;
        if !tensor.dtype.is_float() {
            let what = format!("is of type {}, and must be F32, F16 or BF16", tensor.dtype.name());
            return Err(self.store.refuse(name, what));
        }
        let tensor = self.of_shape(name, tensor, shape)?;
        self.check_finite(name, &tensor)?;
        Ok(tensor)
    }

    pub(super) fn linear(
        &self,
        name: &str,
        n_in: usize,
        n_out: usize,
        biased: bool,
    ) -> Result<Linear, WeightsError> {
        let part = |part: &str| format!("{name}.{part}");
        let (awq, packed) = (part("qweight"), part("weight_packed"));
        let matrix = if self.store.contains(&awq) {
            let Quantisation::AwqGemm { group_size } = self.config.quantisation else {
                return Err(self.unannounced(&awq, "awq"));
            };
            Matrix::Int4(self.awq(name, n_in, n_out, group_size.unwrap_or(n_in))?)
        } else if self.store.contains(&packed) {
            let Quantisation::PackQuantized { symmetry } = self.config.quantisation else {
                return Err(self.unannounced(&packed, "compressed-tensors"));
            };
            Matrix::Int4(self.pack_quantized(name, n_in, n_out, symmetry)?)
        } else {
            let weight = part("weight");
            if !self.store.contains(&weight) {
                let what = "is missing, and so are `qweight` and `weight_packed`";
                return Err(self.store.refuse(&weight, what.to_owned()));
            }
            Matrix::Float(self.finite(&weight, &[n_out, n_in])?)
        };
        let bias = self.bias(&part("bias"), n_out, biased)?;
        Ok(Linear { name: name.to_owned(), n_in, n_out, matrix, bias })
    }

    fn bias(&self, name: &str, n_out: usize, biased: bool) -> Result<Option<Tensor>, WeightsError> {
        match biased {
            true => Ok(Some(self.finite(name, &[n_out])?)),
            // To leave it out would be a model that answers, and wrongly.
            false if self.store.contains(name) => {
                Err(self.store.refuse(name, "is there, and the config says there is no bias".to_owned()))
            }
            false => Ok(None),
        }
    }

    fn awq(
        &self,
        name: &str,
        n_in: usize,
        n_out: usize,
        n_sharing: usize,
    ) -> Result<Int4Matrix, WeightsError> {
        let part = |part: &str| format!("{name}.{part}");
        self.check_order(&part("g_idx"))?;
        if !n_out.is_multiple_of(N_PACKED) {
            let what = format!("of {n_out} columns, which {N_PACKED} does not divide");
            return Err(self.store.refuse(&part("qweight"), what));
        }
        if !n_in.is_multiple_of(n_sharing) {
            let what = format!("a `group_size` of {n_sharing} does not divide its {n_in} rows");
            return Err(self.store.refuse(&part("scales"), what));
        }
        let n_scale_groups = n_in / n_sharing;
        let qweight = self.words(&part("qweight"), &[n_in, n_out / N_PACKED])?;
        let qzeros = self.words(&part("qzeros"), &[n_scale_groups, n_out / N_PACKED])?;
        let scales = self.finite(&part("scales"), &[n_scale_groups, n_out])?;
        let layout = Int4Layout::AwqGemm { qweight, qzeros, scales };
        Ok(Int4Matrix { n_in, n_out, group_size: group_size_of(n_sharing), layout })
    }

    fn pack_quantized(
        &self,
        name: &str,
        n_in: usize,
        n_out: usize,
        symmetry: Symmetry,
    ) -> Result<Int4Matrix, WeightsError> {
        let part = |part: &str| format!("{name}.{part}");
        self.check_order(&part("weight_g_idx"))?;
        self.check_shape_tensor(&part("weight_shape"), n_in, n_out)?;
        let packed = self.words(&part("weight_packed"), &[n_out, n_in.div_ceil(N_PACKED)])?;
        let scale_name = part("weight_scale");
        let scales = self.store.tensor(&scale_name)?;
        // The config may describe several kinds of modules; what this one is, its scales say.
        let n_scale_groups = scales.shape.get(1).copied().unwrap_or(0);
        if n_scale_groups == 0 || !n_in.is_multiple_of(n_scale_groups) {
            let what = format!("is of shape {:?}, whose groups do not divide {n_in} inputs", scales.shape);
            return Err(self.store.refuse(&scale_name, what));
        }
        let n_sharing = n_in / n_scale_groups;
        if n_scale_groups > 1 && !n_sharing.is_multiple_of(N_PACKED) {
            let what = format!("has groups of {n_sharing} inputs, which {N_PACKED} does not divide");
            return Err(self.store.refuse(&scale_name, what));
        }
        let scales = self.finite(&scale_name, &[n_out, n_scale_groups])?;
        let zero_name = part("weight_zero_point");
        let zero_shape = [n_out.div_ceil(N_PACKED), n_scale_groups];
        // Whoever leaves out zeros that there are, or reads zeros that are not meant, gets other weights.
        let zeros = match (symmetry, self.store.contains(&zero_name)) {
            (Symmetry::Symmetric, true) => {
                let what = "is there, and the config says the weights are symmetric";
                return Err(self.store.refuse(&zero_name, what.to_owned()));
            }
            (Symmetry::Symmetric | Symmetry::Mixed, false) => None,
            (Symmetry::Asymmetric, _) | (Symmetry::Mixed, true) => Some(self.words(&zero_name, &zero_shape)?),
        };
        let layout = Int4Layout::PackQuantized { packed, scales, zeros };
        Ok(Int4Matrix { n_in, n_out, group_size: group_size_of(n_sharing), layout })
    }

    /// Reordered inputs would have to be put back in order first.
    fn check_order(&self, name: &str) -> Result<(), WeightsError> {
        match self.store.contains(name) {
            true => {
                Err(self.store.refuse(name, "is there, and reordered inputs are not supported".to_owned()))
            }
            false => Ok(()),
        }
    }

    /// The shape before packing, which the format keeps in a tensor of its own.
    fn check_shape_tensor(&self, name: &str, n_in: usize, n_out: usize) -> Result<(), WeightsError> {
        let tensor = self.store.tensor(name)?;
        let whole = match tensor.dtype {
            Dtype::I32 | Dtype::I64 => true,
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => false,
        };
        if !whole || tensor.shape != [2] {
            let what =
                format!("is {} of {:?}, and must be two whole numbers", tensor.dtype.name(), tensor.shape);
            return Err(self.store.refuse(name, what));
        }
        // Dimensions are small enough for f32 to hold them.
        if (tensor.float(0), tensor.float(1)) != (n_out as f32, n_in as f32) {
            let what =
                format!("says {} x {}, and the config {n_out} x {n_in}", tensor.float(0), tensor.float(1));
            return Err(self.store.refuse(name, what));
        }
        Ok(())
    }

    fn words(&self, name: &str, shape: &[usize]) -> Result<Tensor, WeightsError> {
        let tensor = self.store.tensor(name)?;
        if tensor.dtype != Dtype::I32 {
            let what = format!("is of type {}, and must be I32", tensor.dtype.name());
            return Err(self.store.refuse(name, what));
        }
        self.of_shape(name, tensor, shape)
    }

    fn of_shape(&self, name: &str, tensor: Tensor, shape: &[usize]) -> Result<Tensor, WeightsError> {
        if tensor.shape == shape {
            return Ok(tensor);
        }
        let what = format!("is of shape {:?}, and the config asks for {shape:?}", tensor.shape);
        Err(self.store.refuse(name, what))
    }

    fn check_finite(&self, name: &str, tensor: &Tensor) -> Result<(), WeightsError> {
        match tensor.first_not_finite() {
            None => Ok(()),
            Some(idx) => {
                let what = format!("has {} at place {idx}; the checkpoint is damaged", tensor.float(idx));
                Err(self.store.refuse(name, what))
            }
        }
    }

    fn unannounced(&self, name: &str, quant_method: &str) -> WeightsError {
        let what =
            format!("is there, and `quantization_config` in config.json does not say `{quant_method}`");
        self.store.refuse(name, what)
    }
}
