//! Prices as LiteLLM's public list has them, and how they differ from ours.
//!
//! Pure: changes no price; whoever wants one adds an entry of a later day.
//!
//! Invariants: a figure is read as the decimal text it is written as, never through a float; a list that
//! does not name a kind of token says nothing about it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Price, PriceBook};
use crate::money::{NanoUsd, Rate};

const TOKENS_PER_RATE: i32 = 6;

/// One model of the list. Figures are dollars a token; whatever else the list says is left alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Listed<'a> {
    #[serde(borrow)]
    input_cost_per_token: Option<&'a RawValue>,
    #[serde(borrow)]
    output_cost_per_token: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read_input_token_cost: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation_input_token_cost: Option<&'a RawValue>,
    #[serde(borrow)]
    input_cost_per_audio_token: Option<&'a RawValue>,
    #[serde(borrow)]
    output_cost_per_audio_token: Option<&'a RawValue>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ListError {
    #[error("the list is not a JSON object of models: {0}")]
    NotAList(String),
    #[error("model `{model}`: `{field}` is `{value}`, which is no price a token")]
    BadFigure { model: String, field: &'static str, value: String },
}

/// A price that is not what the list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub model: String,
    /// The key of `prices.toml`.
    pub field: &'static str,
    pub ours: Option<Rate>,
    pub listed: Rate,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = self.ours.map_or_else(|| "none".to_owned(), shown);
        write!(f, "{}: {} is {ours}, listed {}", self.model, self.field, shown(self.listed))
    }
}

/// Dollars per million tokens.
pub fn shown(rate: Rate) -> String {
    NanoUsd::new(rate.nanos_per_million()).to_string()
}

/// A model's whole entry as it would be with the listed figures; what the list does not say is ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Renewed {
    pub model: String,
    /// The keys of `prices.toml` and their figures.
    pub rates: Vec<(&'static str, Rate)>,
    pub context_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub differences: Vec<Difference>,
    /// One for each model with a difference.
    pub renewed: Vec<Renewed>,
    pub n_same: usize,
    /// Models of ours that the list does not have.
    pub unlisted: Vec<String>,
}

/// Compares the prices that hold at `now_ms` with the list.
pub fn compare(book: &PriceBook, list: &str, now_ms: i64) -> Result<Comparison, ListError> {
    let list: BTreeMap<String, Listed<'_>> =
        serde_json::from_str(list).map_err(|error| ListError::NotAList(error.to_string()))?;
    let mut found = Comparison::default();
    for (model, price) in book.at(now_ms) {
        let Some(listed) = list.get(model) else {
            found.unlisted.push(model.to_owned());
            continue;
        };
        let before = found.differences.len();
        let mut rates = Vec::new();
        for (field, ours, figure) in figures(price, listed) {
            let listed = figure.map(|figure| rate(model, field, figure)).transpose()?;
            rates.extend(listed.or(ours).map(|rate| (field, rate)));
            if let Some(listed) = listed.filter(|listed| ours != Some(*listed)) {
                found.differences.push(Difference { model: model.to_owned(), field, ours, listed });
            }
        }
        if found.differences.len() == before {
            found.n_same += 1;
            continue;
        }
        let Price { context_tokens, max_output_tokens, .. } = *price;
        found.renewed.push(Renewed { model: model.to_owned(), rates, context_tokens, max_output_tokens });
    }
    Ok(found)
}

fn figures<'a>(
    price: &Price,
    listed: &Listed<'a>,
) -> [(&'static str, Option<Rate>, Option<&'a RawValue>); 6] {
    [
        ("input", Some(price.input), listed.input_cost_per_token),
        ("output", Some(price.output), listed.output_cost_per_token),
        ("cached_read", Some(price.cached_read), listed.cache_read_input_token_cost),
        ("cache_write", Some(price.cache_write), listed.cache_creation_input_token_cost),
        ("audio_input", price.audio_input, listed.input_cost_per_audio_token),
        ("audio_output", price.audio_output, listed.output_cost_per_audio_token),
    ]
}

fn rate(model: &str, field: &'static str, figure: &RawValue) -> Result<Rate, ListError> {
    let text = figure.get().trim().trim_matches('"');
    let per_million = shifted(text, TOKENS_PER_RATE);
    per_million.as_deref().and_then(Rate::from_usd_per_million).ok_or_else(|| ListError::BadFigure {
        model: model.to_owned(),
        field,
        value: figure.get().chars().take(40).collect(),
    })
}

/// A decimal number such as `1.25e-06` times ten to the power of `by`, without an exponent.
fn shifted(text: &str, by: i32) -> Option<String> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = [whole, fraction].concat();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(by)?;
    if !is_number || point.abs() > 40 {
        return None;
    }
    let n_digits = i32::try_from(digits.len()).ok()?;
    Some(if point <= 0 {
        format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
    } else if point >= n_digits {
        format!("{digits}{}", "0".repeat((point - n_digits).unsigned_abs() as usize))
    } else {
        let (whole, fraction) = digits.split_at(point.unsigned_abs() as usize);
        format!("{whole}.{fraction}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::PriceConfig;

    fn book() -> PriceBook {
        let text = "model = 'm'\nfrom = '2025-01-01'\ninput = 1.25\noutput = 10.0\ncached_read = 0.125";
        let one: PriceConfig = toml::from_str(text).unwrap();
        let mut other: PriceConfig = toml::from_str(text).unwrap();
        other.model = "ours-alone".to_owned();
        PriceBook::try_new(&[one, other]).unwrap()
    }

    #[test]
    fn the_same_price_in_any_notation_is_no_difference() {
        for input in ["1.25e-06", "0.00000125", "1.25E-6", "125e-8", "\"0.00000125\""] {
            let list = format!(
                r#"{{"m": {{"input_cost_per_token": {input}, "output_cost_per_token": 1e-05, "mode": "chat"}}}}"#
            );
            let found = compare(&book(), &list, i64::MAX).unwrap();
            assert_eq!((found.differences, found.n_same), (vec![], 1), "{input}");
            assert_eq!(found.unlisted, ["ours-alone"]);
        }
    }

    #[test]
    fn what_changed_is_told_with_both_prices() {
        let list = r#"{"m": {"input_cost_per_token": 1.25e-06, "output_cost_per_token": 8e-06,
            "cache_read_input_token_cost": 1.25e-07, "input_cost_per_audio_token": 4e-05}}"#;

        let found = compare(&book(), list, i64::MAX).unwrap();

        let told: Vec<String> = found.differences.iter().map(ToString::to_string).collect();
        let rates: Vec<_> =
            found.renewed[0].rates.iter().map(|(field, rate)| (*field, shown(*rate))).collect();
        let expected = [
            ("input", "1.25"),
            ("output", "8.00"),
            ("cached_read", "0.125"),
            ("cache_write", "1.25"),
            ("audio_input", "40.00"),
        ];
        assert_eq!(rates, expected.map(|(field, usd)| (field, usd.to_owned())));
        assert_eq!(told, ["m: output is 10.00, listed 8.00", "m: audio_input is none, listed 40.00"]);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_told() {
        assert!(matches!(compare(&book(), "[]", 0), Err(ListError::NotAList(_))));
        for bad in ["-1e-06", "\"free\"", "1e-99", "1e999999999", "{}"] {
            let list = format!(r#"{{"m": {{"input_cost_per_token": {bad}}}}}"#);
            let error = compare(&book(), &list, i64::MAX).unwrap_err();
            assert!(error.to_string().contains("`input`"), "{bad}: {error}");
        }
    }
}
