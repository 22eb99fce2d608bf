//! What a token costs: dated prices by model, and the exact cost of a usage.
//!
//! Never guesses: a model, a date or a kind of token without a price is [`Unpriced`], never 0.
//!
//! Invariants: an entry applies from its date on and is never changed by a later one; a cost is
//! rounded once.

mod listed;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use listed::{Comparison, Difference, ListError, Renewed, compare, shown};

use crate::chat::Usage;
use crate::money::{NanoUsd, Rate, Rated};

/// One `[[price]]` of `prices.toml`. Rates are US dollars per million tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    /// The upstream's name of the model.
    pub model: String,
    /// The first day this price holds, `YYYY-MM-DD`, UTC.
    pub from: String,
    pub input: f64,
    pub output: f64,
    /// Input tokens read from the provider's prefix cache. Default: `input`.
    pub cached_read: Option<f64>,
    /// Input tokens written to the provider's prefix cache. Default: `input`.
    pub cache_write: Option<f64>,
    /// Audio tokens; without it a usage with audio is unpriced.
    pub audio_input: Option<f64>,
    pub audio_output: Option<f64>,
    /// The model's limits in tokens, where known.
    pub context_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
}

/// The `[pricing]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PricingConfig {
    /// What to do with a call to a model without a price: `refuse` it, or `meter` it with a null cost. Default: `refuse`.
    pub unknown_price: UnknownPrice,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPrice {
    #[default]
    Refuse,
    Meter,
}

/// A validated price and the model's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    input: Rate,
    output: Rate,
    cached_read: Rate,
    cache_write: Rate,
    audio_input: Option<Rate>,
    audio_output: Option<Rate>,
    pub context_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
}

/// The usage holds a kind of token that has no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} tokens have no price; add `{kind}` to the model's entry in prices.toml")]
pub struct Unpriced {
    kind: &'static str,
}

impl Price {
    /// Of what is computed here: a prompt found in the prefix cache was paid for when it was computed.
    pub fn of_own(input: Rate, output: Rate) -> Self {
        Self {
            input,
            output,
            cached_read: Rate::default(),
            cache_write: input,
            audio_input: None,
            audio_output: None,
            context_tokens: None,
            max_output_tokens: None,
        }
    }

    pub fn cost(&self, usage: &Usage) -> Result<NanoUsd, Unpriced> {
        let text_input = usage.input - usage.cached_read - usage.cache_write - usage.audio_input;
        let text_output = usage.output - usage.audio_output;
        let exact = self.input.of(text_input)
            + self.cached_read.of(usage.cached_read)
            + self.cache_write.of(usage.cache_write)
            + audio(self.audio_input, usage.audio_input, "audio_input")?
            + self.output.of(text_output)
            + audio(self.audio_output, usage.audio_output, "audio_output")?;
        Ok(exact.round())
    }

    /// The most that so many tokens can cost, whatever kinds they turn out to be; only a call
    /// that may be audio is held at audio rates.
    pub fn worst_cost(&self, n_input: u64, n_output: u64, may_be_audio: bool) -> NanoUsd {
        let audio = |rate: Option<Rate>| rate.filter(|_| may_be_audio).unwrap_or_default();
        let dearest_input =
            self.input.max(self.cached_read).max(self.cache_write).max(audio(self.audio_input));
        let dearest_output = self.output.max(audio(self.audio_output));
        (dearest_input.of(n_input) + dearest_output.of(n_output)).round()
    }
}

fn audio(rate: Option<Rate>, n_tokens: u64, kind: &'static str) -> Result<Rated, Unpriced> {
    match (rate, n_tokens) {
        (_, 0) => Ok(Rated::default()),
        (Some(rate), n) => Ok(rate.of(n)),
        (None, _) => Err(Unpriced { kind }),
    }
}

/// All prices, by model and day.
#[derive(Debug, Clone, Default)]
pub struct PriceBook {
    by_model: BTreeMap<String, BTreeMap<i64, Price>>,
}

impl PriceBook {
    /// Validates all entries; the errors name the entry (`price[3].input`) and what is wrong.
    pub fn try_new(entries: &[PriceConfig]) -> Result<Self, Vec<(String, String)>> {
        let mut book = Self::default();
        let mut mistakes = Vec::new();
        for (idx, entry) in entries.iter().enumerate() {
            let mut mistake =
                |field: &str, problem: String| mistakes.push((format!("price[{idx}].{field}"), problem));
            let price = read_price(entry, &mut mistake);
            match (first_day_ms(&entry.from), price) {
                (None, _) => mistake("from", format!("`{}` is not a date; write YYYY-MM-DD", entry.from)),
                (Some(_), None) => {}
                (Some(from_ms), Some(price)) => {
                    let dated = book.by_model.entry(entry.model.clone()).or_default();
                    if dated.insert(from_ms, price).is_some() {
                        let problem =
                            format!("`{}` already has a price from {}; keep one", entry.model, entry.from);
                        mistake("from", problem);
                    }
                }
            }
        }
        if mistakes.is_empty() { Ok(book) } else { Err(mistakes) }
    }

    /// Every model with a price at `now_ms`, and that price.
    pub fn at(&self, now_ms: i64) -> impl Iterator<Item = (&str, &Price)> {
        self.by_model.keys().filter_map(move |model| Some((model.as_str(), self.price(model, now_ms)?)))
    }

    /// The price of `model` that holds at `now_ms`.
    pub fn price(&self, model: &str, now_ms: i64) -> Option<&Price> {
        self.by_model.get(model)?.range(..=now_ms).next_back().map(|(_, price)| price)
    }
}

fn read_price(entry: &PriceConfig, mistake: &mut impl FnMut(&str, String)) -> Option<Price> {
    let mut all_good = true;
    let mut rate = |field: &str, usd: Option<f64>| {
        let read = usd.map(|usd| Rate::from_usd_per_million(&usd.to_string()));
        if read == Some(None) {
            all_good = false;
            mistake(
                field,
                "must be dollars per million tokens: not negative, at most nine decimals".to_owned(),
            );
        }
        read.flatten()
    };
    let input = rate("input", Some(entry.input));
    let output = rate("output", Some(entry.output));
    let cached_read = rate("cached_read", entry.cached_read).or(input);
    let cache_write = rate("cache_write", entry.cache_write).or(input);
    let audio_input = rate("audio_input", entry.audio_input);
    let audio_output = rate("audio_output", entry.audio_output);
    all_good.then_some(())?;
    Some(Price {
        input: input?,
        output: output?,
        cached_read: cached_read?,
        cache_write: cache_write?,
        audio_input,
        audio_output,
        context_tokens: entry.context_tokens,
        max_output_tokens: entry.max_output_tokens,
    })
}

fn first_day_ms(date: &str) -> Option<i64> {
    let date: jiff::civil::Date = date.parse().ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(model: &str, from: &str, input: f64) -> PriceConfig {
        let text = format!(
            "model = '{model}'\nfrom = '{from}'\ninput = {input}\noutput = 10.0\ncached_read = 0.125"
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn cached_and_written_tokens_have_their_own_price() {
        let mut config = entry("m", "2025-01-01", 1.25);
        config.cache_write = Some(1.5);
        let book = PriceBook::try_new(&[config]).unwrap();
        let usage = Usage {
            input: 1_000,
            cached_read: 600,
            cache_write: 100,
            output: 50,
            reasoning: 20,
            ..Usage::default()
        };

        let cost = book.price("m", i64::MAX).unwrap().cost(&usage).unwrap();

        assert_eq!(cost, NanoUsd::new(300 * 1_250 + 600 * 125 + 100 * 1_500 + 50 * 10_000));
    }

    #[test]
    fn a_price_holds_from_its_day_on_and_not_a_millisecond_before() {
        let book =
            PriceBook::try_new(&[entry("m", "2025-01-01", 1.0), entry("m", "2025-02-01", 2.0)]).unwrap();
        let january = 1_735_689_600_000;
        let february = 1_738_368_000_000;
        let input_cost = |now_ms| {
            book.price("m", now_ms)
                .map(|price| price.cost(&Usage { input: 1, ..Usage::default() }).unwrap().get())
        };

        assert_eq!(input_cost(january - 1), None);
        assert_eq!(input_cost(january), Some(1_000));
        assert_eq!(input_cost(february - 1), Some(1_000));
        assert_eq!(input_cost(february), Some(2_000));
        assert_eq!(book.price("unknown", february), None);
    }

    #[test]
    fn audio_without_a_price_is_unpriced_and_never_free() {
        let book = PriceBook::try_new(&[entry("m", "2025-01-01", 1.0)]).unwrap();
        let usage = Usage { input: 5, audio_input: 5, ..Usage::default() };

        let error = book.price("m", i64::MAX).unwrap().cost(&usage).unwrap_err();

        assert!(error.to_string().contains("audio_input"), "{error}");
    }

    #[test]
    fn every_mistake_is_reported_with_its_entry() {
        let mut bad = entry("m", "soon", -1.0);
        bad.cached_read = Some(f64::NAN);

        let mistakes =
            PriceBook::try_new(&[entry("m", "2025-01-01", 1.0), bad, entry("m", "2025-01-01", 3.0)])
                .unwrap_err();

        let keys: Vec<&str> = mistakes.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["price[1].input", "price[1].cached_read", "price[1].from", "price[2].from"]);
    }

    #[test]
    fn the_worst_cost_is_never_below_the_real_one() {
        let book = PriceBook::try_new(&[entry("m", "2025-01-01", 1.0)]).unwrap();
        let price = book.price("m", i64::MAX).unwrap();
        let usage = Usage { input: 100, cached_read: 30, output: 7, ..Usage::default() };

        assert!(price.worst_cost(100, 7, false) >= price.cost(&usage).unwrap());
    }
}
