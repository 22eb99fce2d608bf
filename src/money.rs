//! Money as integers: nano-dollars, and prices in nano-dollars per million tokens.
//!
//! Knows nothing of models, tokens by kind or budgets.
//!
//! Invariants: no floating point takes part in a sum; a product of tokens and a rate is
//! rounded once, half up, by [`Rated::round`]; arithmetic that would overflow panics rather than wraps.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Serialize};

const NANOS_PER_USD: i64 = 1_000_000_000;
const TOKENS_PER_RATE: i128 = 1_000_000;

/// An amount of money in nano-dollars. Negative where a saving turned out to be a loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(i64);

impl NanoUsd {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(i64::MAX);

    pub const fn new(nanos: i64) -> Self {
        Self(nanos)
    }

    pub const fn get(self) -> i64 {
        self.0
    }

    /// Reads a decimal amount of dollars exactly, such as `0.25`; more than nine decimals are refused.
    pub fn from_usd(text: &str) -> Option<Self> {
        decimal(text, NANOS_PER_USD).map(Self)
    }

    /// For gauges and headers only; sums stay in integers.
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / NANOS_PER_USD as f64
    }

    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Dollars with all nine decimals, trailing zeros cut to at least two: `0.00`, `1.25`, `0.000000031`.
impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let per_usd = NANOS_PER_USD.unsigned_abs();
        let fraction = format!("{:09}", nanos % per_usd);
        let kept = fraction.trim_end_matches('0').len().max(2);
        write!(f, "{sign}{}.{}", nanos / per_usd, &fraction[..kept])
    }
}

impl Add for NanoUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.checked_add(other.0).expect("money fits in 63 bits of nano-dollars"))
    }
}

impl Sub for NanoUsd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.checked_sub(other.0).expect("money fits in 63 bits of nano-dollars"))
    }
}

impl AddAssign for NanoUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for NanoUsd {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for NanoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// A price: nano-dollars per million tokens, so that $0.0125 per million is still a whole number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(i64);

impl Rate {
    pub const fn per_million(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Reads dollars per million tokens exactly.
    pub fn from_usd_per_million(text: &str) -> Option<Self> {
        decimal(text, NANOS_PER_USD).filter(|nanos| *nanos >= 0).map(Self)
    }

    pub const fn nanos_per_million(self) -> i64 {
        self.0
    }

    pub fn of(self, n_tokens: u64) -> Rated {
        Rated(i128::from(self.0) * i128::from(n_tokens))
    }
}

/// An exact product of rates and tokens, not yet rounded to nano-dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rated(i128);

impl Rated {
    /// The one rounding of a cost: half up, to a nano-dollar.
    pub fn round(self) -> NanoUsd {
        let nanos = (self.0 + TOKENS_PER_RATE / 2).div_euclid(TOKENS_PER_RATE);
        NanoUsd(i64::try_from(nanos).expect("a cost fits in 63 bits of nano-dollars"))
    }
}

impl Add for Rated {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

/// Reads `text` as a decimal number times `scale`, a power of ten, without going through a float.
fn decimal(text: &str, scale: i64) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let n_decimals = scale.ilog10() as usize;
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > n_decimals {
        return None;
    }
    let padded = format!("{fraction:0<n_decimals$}");
    let nanos = whole.parse::<i64>().ok()?.checked_mul(scale)?.checked_add(padded.parse().unwrap_or(0))?;
    Some(if negative { -nanos } else { nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_exactly_and_shown_back() {
        for (text, nanos, shown) in [
            ("0.25", 250_000_000, "0.25"),
            ("1", 1_000_000_000, "1.00"),
            ("0.000000001", 1, "0.000000001"),
            ("-2.5", -2_500_000_000, "-2.50"),
        ] {
            let read = NanoUsd::from_usd(text).unwrap();
            assert_eq!(read, NanoUsd::new(nanos));
            assert_eq!(read.to_string(), shown);
        }
    }

    #[test]
    fn what_is_not_a_decimal_is_refused() {
        for text in ["", ".", ".5", "1e3", "1.0000000001", "NaN", "--1", "1,5"] {
            assert_eq!(NanoUsd::from_usd(text), None, "{text}");
        }
    }

    #[test]
    fn a_cost_is_rounded_once_and_half_up() {
        let rate = Rate::from_usd_per_million("0.0000005").unwrap();

        assert_eq!(rate.of(999).round(), NanoUsd::new(0));
        assert_eq!(rate.of(1_000).round(), NanoUsd::new(1));
        assert_eq!((rate.of(500) + rate.of(500)).round(), NanoUsd::new(1));
    }
}
