//! What the calls cost, by a price table of its own: the invoice a ledger has to agree with.
//!
//! Shares no code with the gateway's pricing. Knows nothing of requests.
//!
//! Invariants: integers only; one rounding a call, half up, to a nano-dollar; each token is charged
//! under one kind: cached, cache-write and audio tokens are not charged as plain input again.

use std::collections::HashMap;

use serde::Serialize;

const TOKENS_PER_PRICE: i128 = 1_000_000;

/// Token counts of a call. `prompt` includes `cached`, `cache_write` and `audio_in`; `completion`
/// includes `reasoning` and `audio_out`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub prompt: u64,
    pub completion: u64,
    pub cached: u64,
    pub cache_write: u64,
    pub reasoning: u64,
    pub audio_in: u64,
    pub audio_out: u64,
}

impl Usage {
    pub fn total(&self) -> u64 {
        self.prompt + self.completion
    }

    /// The usage of a call that ended after `n_written` of its output tokens.
    pub fn cut_to(self, n_written: u64) -> Self {
        let completion = self.completion.min(n_written);
        Self {
            completion,
            reasoning: self.reasoning.min(completion),
            audio_out: self.audio_out.min(completion),
            ..self
        }
    }
}

/// Nano-dollars per million tokens, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Price {
    pub input: i64,
    pub cached: i64,
    pub cache_write: i64,
    pub audio_in: i64,
    pub output: i64,
    pub audio_out: i64,
}

impl Price {
    /// A price where cached input costs half, cache writes a quarter more, and audio eight times.
    pub const fn of(input: i64, output: i64) -> Self {
        Self {
            input,
            cached: input / 2,
            cache_write: input / 4 * 5,
            audio_in: input * 8,
            output,
            audio_out: output * 8,
        }
    }

    pub fn cost_nano_usd(&self, usage: &Usage) -> i64 {
        let plain_in = usage.prompt.saturating_sub(usage.cached + usage.cache_write + usage.audio_in);
        let plain_out = usage.completion.saturating_sub(usage.audio_out);
        let parts = [
            (self.input, plain_in),
            (self.cached, usage.cached),
            (self.cache_write, usage.cache_write),
            (self.audio_in, usage.audio_in),
            (self.output, plain_out),
            (self.audio_out, usage.audio_out),
        ];
        let exact: i128 =
            parts.iter().map(|(price, n_tokens)| i128::from(*price) * i128::from(*n_tokens)).sum();
        let rounded = (exact + TOKENS_PER_PRICE / 2).div_euclid(TOKENS_PER_PRICE);
        i64::try_from(rounded).expect("a call costs less than nine billion dollars")
    }
}

#[derive(Debug, Clone)]
pub struct PriceList {
    by_model: HashMap<String, Price>,
    otherwise: Price,
}

impl Default for PriceList {
    fn default() -> Self {
        let by_model = [
            ("gpt-4o", Price::of(2_500_000_000, 10_000_000_000)),
            ("gpt-4o-mini", Price::of(150_000_000, 600_000_000)),
            ("gpt-3.5-turbo-instruct", Price::of(1_500_000_000, 2_000_000_000)),
            ("text-embedding-3-small", Price::of(20_000_000, 0)),
        ];
        Self {
            by_model: by_model.map(|(model, price)| (model.to_owned(), price)).into(),
            otherwise: Price::of(1_000_000_000, 3_000_000_000),
        }
    }
}

impl PriceList {
    pub fn set(&mut self, model: &str, price: Price) {
        self.by_model.insert(model.to_owned(), price);
    }

    pub fn of(&self, model: &str) -> Price {
        self.by_model.get(model).copied().unwrap_or(self.otherwise)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BilledCall {
    /// The position among all calls seen, as in `SeenCall::number`.
    pub number: u64,
    /// What the client was told in `x-request-id`.
    pub request_id: String,
    pub model: String,
    pub usage: Usage,
    pub cost_nano_usd: i64,
    /// False where the stream ended before its last token.
    pub complete: bool,
}

/// All that was charged. The totals count calls that are no longer listed, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Bill {
    pub n_calls: u64,
    pub total_nano_usd: i64,
    pub n_prompt_tokens: u64,
    pub n_completion_tokens: u64,
    pub calls: Vec<BilledCall>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_token_is_charged_once() {
        let price = Price { input: 10, cached: 1, cache_write: 12, audio_in: 80, output: 40, audio_out: 90 };
        let price = Price::scaled(price, 1_000_000);
        let usage = Usage {
            prompt: 100,
            cached: 50,
            cache_write: 20,
            audio_in: 5,
            completion: 10,
            reasoning: 4,
            audio_out: 3,
        };

        assert_eq!(price.cost_nano_usd(&usage), 25 * 10 + 50 + 20 * 12 + 5 * 80 + 7 * 40 + 3 * 90);
    }

    #[test]
    fn a_cost_is_rounded_half_up() {
        let price = Price { input: 1, cached: 0, cache_write: 0, audio_in: 0, output: 0, audio_out: 0 };
        let cost = |prompt| price.cost_nano_usd(&Usage { prompt, ..Usage::default() });

        assert_eq!((cost(499_999), cost(500_000), cost(1_499_999)), (0, 1, 1));
    }

    #[test]
    fn a_call_cut_short_is_charged_for_what_was_written() {
        let usage = Usage { prompt: 9, completion: 20, reasoning: 5, ..Usage::default() };

        assert_eq!(usage.cut_to(3), Usage { prompt: 9, completion: 3, reasoning: 3, ..Usage::default() });
        assert_eq!(usage.cut_to(99), usage);
    }

    impl Price {
        fn scaled(self, factor: i64) -> Self {
            Self {
                input: self.input * factor,
                cached: self.cached * factor,
                cache_write: self.cache_write * factor,
                audio_in: self.audio_in * factor,
                output: self.output * factor,
                audio_out: self.audio_out * factor,
            }
        }
    }
}
