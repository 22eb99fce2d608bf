//! Rotary positions from a config, in the old spelling (`rope_theta`, `rope_scaling`) and the new
//! (`rope_parameters`).
//!
//! Knows no kind that the engine cannot compute: those are errors, not plain positions.

use super::MAX_CONTEXT;
use super::keys::Keys;
use crate::model::{Rope, RopeScaling};
use crate::weights::WeightsError;

/// What every supported family starts from.
const DEFAULT_THETA: f64 = 10_000.0;

pub(super) fn parse(keys: &Keys<'_>, context: usize) -> Result<Rope, WeightsError> {
    // A checkpoint that has both was written by an old version and edited by hand: transformers, too,
    // takes the old key then.
    let section = match keys.section("rope_scaling")? {
        Some(section) => Some(section),
        None => keys.section("rope_parameters")?,
    };
    let own_theta = section.as_ref().map(|section| theta_of(section)).transpose()?.flatten();
    let theta = own_theta.or(theta_of(keys)?).unwrap_or(DEFAULT_THETA);
    check_whole_head(keys)?;
    let Some(section) = section else { return Ok(Rope { theta, scaling: RopeScaling::None }) };
    check_whole_head(&section)?;
    // Where the trained length is not with the scaling, it is beside it, or the context itself.
    let original = match section.count("original_max_position_embeddings", MAX_CONTEXT)? {
        Some(original) => original,
        None => keys.count("original_max_position_embeddings", MAX_CONTEXT)?.unwrap_or(context),
    };
    Ok(Rope { theta, scaling: scaling(&section, original, context)? })
}

fn theta_of(keys: &Keys<'_>) -> Result<Option<f64>, WeightsError> {
    match keys.number("rope_theta")? {
        Some(theta) if theta <= 1.0 => {
            Err(keys.wrong("rope_theta", format!("is {theta}, and must be above 1")))
        }
        theta => Ok(theta),
    }
}

fn check_whole_head(keys: &Keys<'_>) -> Result<(), WeightsError> {
    match keys.number("partial_rotary_factor")? {
        None | Some(1.0) => Ok(()),
        Some(factor) => {
            let what = format!("is {factor}; turning part of a head only is not supported");
            Err(keys.wrong("partial_rotary_factor", what))
        }
    }
}

fn scaling(keys: &Keys<'_>, original: usize, context: usize) -> Result<RopeScaling, WeightsError> {
    let kind_key = if keys.get("rope_type").is_some() { "rope_type" } else { "type" };
    match keys.text(kind_key)?.unwrap_or("default") {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: keys.needed_number("factor")? }),
        "llama3" => llama3(keys, original),
        "yarn" => yarn(keys, original, context),
        other => {
            let what = format!("`{other}` is not supported; `default`, `linear`, `llama3` and `yarn` are");
            Err(keys.wrong(kind_key, what))
        }
    }
}

fn llama3(keys: &Keys<'_>, original_context: usize) -> Result<RopeScaling, WeightsError> {
    let (low, high) = (keys.needed_number("low_freq_factor")?, keys.needed_number("high_freq_factor")?);
    if high <= low {
        let what = format!("is {high}, and must be above `low_freq_factor`, {low}");
        return Err(keys.wrong("high_freq_factor", what));
    }
    Ok(RopeScaling::Llama3 {
        factor: keys.needed_number("factor")?,
        low_freq_factor: low,
        high_freq_factor: high,
        original_context,
    })
}

fn yarn(keys: &Keys<'_>, original_context: usize, context: usize) -> Result<RopeScaling, WeightsError> {
    let factor = keys.number("factor")?.unwrap_or(context as f64 / original_context as f64);
    let growth = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    let attention_factor = match (keys.number("attention_factor")?, mscale(keys)?) {
        (Some(attention_factor), _) => attention_factor,
        (None, Some((of_head, of_all))) => growth(of_head) / growth(of_all),
        (None, None) => growth(1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: keys.number("beta_fast")?.unwrap_or(32.0),
        beta_slow: keys.number("beta_slow")?.unwrap_or(1.0),
        original_context,
        attention_factor,
        truncate: keys.flag("truncate", true)?,
    })
}

/// Both or neither; a zero is as good as none.
fn mscale(keys: &Keys<'_>) -> Result<Option<(f64, f64)>, WeightsError> {
    let given = |key: &str| match keys.get(key).and_then(serde_json::Value::as_f64) {
        Some(0.0) => Ok(None),
        Some(_) | None => keys.number(key),
    };
    Ok(given("mscale")?.zip(given("mscale_all_dim")?))
}
