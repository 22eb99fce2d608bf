//! Amounts and shares as a configuration writes them.
//!
//! Computes no balance.
//!
//! Invariants: a [`Share`] is above 0 and below 1; no sum is made of floats.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::money::NanoUsd;

/// Shares are kept in ten-thousandths: 0.8 is 8000.
const WHOLE: u32 = 10_000;

/// A part of an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Share(u32);

impl Share {
    pub fn of(self, amount: NanoUsd) -> NanoUsd {
        let part = i128::from(amount.get()) * i128::from(self.0) / i128::from(WHOLE);
        NanoUsd::new(i64::try_from(part).expect("a part of an amount is no larger than the amount"))
    }
}

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, Self::Error> {
        let scaled = (share * f64::from(WHOLE)).round();
        if scaled >= 1.0 && scaled < f64::from(WHOLE) {
            return Ok(Self(scaled as u32));
        }
        Err(format!("{share} is no share, need more than 0 and less than 1, such as 0.8"))
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(f64::from(self.0) / f64::from(WHOLE))
    }
}

/// Writes an exact decimal text, which [`usd_from_number_or_text`] reads back.
pub fn usd_as_text<S: Serializer>(usd: &NanoUsd, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(usd)
}

/// Takes `500`, `0.25` or `"0.25"`; a float goes through its shortest decimal text.
pub fn usd_from_number_or_text<'de, D: Deserializer<'de>>(from: D) -> Result<NanoUsd, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Wire {
        Whole(i64),
        Fraction(f64),
        Text(String),
    }
    let text = match Wire::deserialize(from)? {
        Wire::Whole(usd) => usd.to_string(),
        Wire::Fraction(usd) => usd.to_string(),
        Wire::Text(usd) => usd,
    };
    NanoUsd::from_usd(&text).filter(|usd| *usd >= NanoUsd::ZERO).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "`{text}` is no amount of dollars, need zero or more with at most nine decimals"
        ))
    })
}
