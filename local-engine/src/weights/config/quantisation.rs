//! How a checkpoint says its matrices are quantised.
//!
//! Reads the config alone: which modules are quantised at all, their tensors say.
//!
//! Invariants: a form that the engine would read wrongly is refused by name, with those it can read.

use super::keys::Keys;
use crate::weights::WeightsError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    None,
    /// AutoAWQ's `gemm`. None when a scale is for a whole column.
    AwqGemm {
        group_size: Option<usize>,
    },
    /// compressed-tensors' `pack-quantized`, whose groups are as the tensors are.
    PackQuantized {
        symmetry: Symmetry,
    },
}

/// Whether matrices have zero points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symmetry {
    Symmetric,
    Asymmetric,
    /// Some do, some do not: their tensors have to say.
    Mixed,
}

const SUPPORTED: &str =
    "supported are AutoAWQ's `gemm` and compressed-tensors' `pack-quantized`, both of 4 bits";

pub(super) fn parse(keys: &Keys<'_>) -> Result<Quantisation, WeightsError> {
    // The second name is what the first checkpoints of compressed-tensors used.
    let section = match keys.section("quantization_config")? {
        Some(section) => Some(section),
        None => keys.section("compression_config")?,
    };
    let Some(section) = section else { return Ok(Quantisation::None) };
    match section.text("quant_method")? {
        Some("awq") => awq(&section),
        Some("compressed-tensors") => pack_quantized(&section),
        Some(other) => Err(section.wrong("quant_method", format!("`{other}` is not supported; {SUPPORTED}"))),
        None => Err(section.wrong("quant_method", format!("is missing; {SUPPORTED}"))),
    }
}

fn awq(keys: &Keys<'_>) -> Result<Quantisation, WeightsError> {
    let version = keys.text("version")?.unwrap_or("gemm");
    if !version.eq_ignore_ascii_case("gemm") {
        return Err(keys.wrong("version", format!("`{version}` is not supported; {SUPPORTED}")));
    }
    if let Some(backend) = keys.text("backend")?.filter(|backend| *backend == "llm-awq") {
        return Err(keys.wrong("backend", format!("`{backend}` is not supported; {SUPPORTED}")));
    }
    check_bits(keys, "bits")?;
    if !keys.flag("zero_point", true)? {
        return Err(keys.wrong("zero_point", "is false; AutoAWQ's `gemm` has zero points"));
    }
    let of_column = keys.get("group_size").is_some_and(|size| size.as_i64() == Some(-1));
    let group_size = if of_column { None } else { Some(keys.needed_count("group_size", super::MAX_WIDTH)?) };
    Ok(Quantisation::AwqGemm { group_size })
}

fn pack_quantized(keys: &Keys<'_>) -> Result<Quantisation, WeightsError> {
    check_format(keys)?;
    if keys.section("transform_config")?.is_some_and(|section| section.get("config_groups").is_some()) {
        return Err(keys.wrong("transform_config", "transformed activations are not supported"));
    }
    if let Some(sparsity) = keys.section("sparsity_config")?
        && let Some(format) = sparsity.text("format")?.filter(|format| *format != "dense")
    {
        return Err(sparsity.wrong("format", format!("`{format}` is not supported; {SUPPORTED}")));
    }
    if keys.get("kv_cache_scheme").is_some() {
        return Err(
            keys.wrong("kv_cache_scheme", "a quantised KV cache of a checkpoint's own is not supported")
        );
    }
    let groups = keys.section("config_groups")?.ok_or_else(|| keys.wrong("config_groups", "is missing"))?;
    let symmetries: Result<Vec<bool>, WeightsError> = groups.sections()?.iter().map(check_group).collect();
    let symmetries = symmetries?;
    let symmetry = match (symmetries.contains(&true), symmetries.contains(&false)) {
        (true, false) => Symmetry::Symmetric,
        (false, true) => Symmetry::Asymmetric,
        (true, true) | (false, false) => Symmetry::Mixed,
    };
    Ok(Quantisation::PackQuantized { symmetry })
}

/// Whether a group of modules is symmetric.
fn check_group(group: &Keys<'_>) -> Result<bool, WeightsError> {
    check_format(group)?;
    if group.get("input_activations").is_some() || group.get("output_activations").is_some() {
        return Err(group.wrong("input_activations", "quantised activations are not supported"));
    }
    let weights = group.section("weights")?.ok_or_else(|| group.wrong("weights", "is missing"))?;
    check_bits(&weights, "num_bits")?;
    for (key, allowed) in [("type", &["int"][..]), ("strategy", &["group", "channel"])] {
        if let Some(other) = weights.text(key)?.filter(|found| !allowed.contains(found)) {
            let what = format!("`{other}` is not supported; {} is", allowed.join(" or "));
            return Err(weights.wrong(key, what));
        }
    }
    if matches!(weights.get("actorder").and_then(|order| order.as_str()), Some("group" | "dynamic")) {
        return Err(weights.wrong("actorder", "reordered inputs are not supported"));
    }
    weights.flag("symmetric", true)
}

fn check_format(keys: &Keys<'_>) -> Result<(), WeightsError> {
    match keys.text("format")? {
        None | Some("pack-quantized") => Ok(()),
        Some(other) => Err(keys.wrong("format", format!("`{other}` is not supported; {SUPPORTED}"))),
    }
}

fn check_bits(keys: &Keys<'_>, key: &str) -> Result<(), WeightsError> {
    match keys.needed_count(key, 64)? {
        4 => Ok(()),
        n_bits => Err(keys.wrong(key, format!("is {n_bits}; {SUPPORTED}"))),
    }
}
