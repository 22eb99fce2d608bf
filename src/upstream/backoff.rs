//! How long to wait before asking again.
//!
//! Pure: the jitter comes in as a number, and nothing here sleeps.
//!
//! Invariants: waits grow up to the greatest and never beyond it; a wait is never shorter than what
//! the upstream asked for.

use std::time::Duration;

use serde::Deserialize;

/// `[upstreams.NAME.backoff]`: the waits between attempts at one upstream.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackoffConfig {
    /// The wait before the first retry, in milliseconds; it doubles with each one after. Default 250.
    pub first_ms: u64,
    /// The greatest wait, in milliseconds. Default 8000.
    pub max_ms: u64,
    /// The share of a wait that is left to chance, from 0 to 1. Default 0.25.
    pub jitter: f64,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { first_ms: 250, max_ms: 8_000, jitter: 0.25 }
    }
}

/// Why a backoff cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InvalidBackoff {
    #[error("`first_ms` is 0; it must be at least 1")]
    NoWait,
    #[error("`max_ms` is {max_ms}; it must be at least `first_ms`, which is {first_ms}")]
    MaxBelowFirst { first_ms: u64, max_ms: u64 },
    #[error("`jitter` is {0}; it must be a number from 0 to 1")]
    Jitter(f64),
}

/// Waits that double from the first to the greatest, each shortened by chance so that calls that
/// failed together do not come back together.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    jitter_share: f64,
}

impl Backoff {
    pub fn try_new(config: &BackoffConfig) -> Result<Self, InvalidBackoff> {
        let BackoffConfig { first_ms, max_ms, jitter } = *config;
        if first_ms == 0 {
            return Err(InvalidBackoff::NoWait);
        }
        if max_ms < first_ms {
            return Err(InvalidBackoff::MaxBelowFirst { first_ms, max_ms });
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(InvalidBackoff::Jitter(jitter));
        }
        let [first, max] = [first_ms, max_ms].map(Duration::from_millis);
        Ok(Self { first, max, jitter_share: jitter })
    }

    /// The wait after `n_failed` failures in a row, at least one; `chance` is in [0, 1).
    pub fn wait(&self, n_failed: u32, chance: f64, retry_after: Option<Duration>) -> Duration {
        debug_assert!((0.0..1.0).contains(&chance), "chance {chance} is outside [0, 1)");
        if let Some(asked) = retry_after {
            // Later by chance, never earlier: whoever was told the same second must not arrive as one.
            return asked + self.first.mul_f64(self.jitter_share * chance);
        }
        let doubled = 2_u32.saturating_pow(n_failed.saturating_sub(1));
        let full = self.first.saturating_mul(doubled).min(self.max);
        full.mul_f64(1.0 - self.jitter_share * chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::try_new(&BackoffConfig { first_ms: 100, max_ms: 1_000, jitter: 0.5 }).unwrap()
    }

    #[test]
    fn waits_double_up_to_the_greatest() {
        let waits: Vec<u128> =
            [1, 2, 3, 4, 5, 6, u32::MAX].iter().map(|n| backoff().wait(*n, 0.0, None).as_millis()).collect();

        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000, 1_000]);
    }

    #[test]
    fn chance_takes_its_share_and_no_more() {
        assert_eq!(backoff().wait(1, 0.5, None), Duration::from_millis(75));
        assert!(backoff().wait(1, 0.999_999, None) > Duration::from_millis(50));
    }

    #[test]
    fn a_wait_is_never_shorter_than_what_was_asked_for() {
        let asked = Duration::from_millis(30);

        assert_eq!(backoff().wait(5, 0.0, Some(asked)), asked);
        assert!(backoff().wait(5, 0.9, Some(asked)) > asked);
        assert!(backoff().wait(5, 0.9, Some(asked)) < asked + Duration::from_millis(50));
    }

    #[test]
    fn each_way_to_be_wrong_has_its_message() {
        let standard = BackoffConfig::default();
        for (config, message) in [
            (BackoffConfig { first_ms: 0, ..standard.clone() }, "`first_ms` is 0"),
            (BackoffConfig { max_ms: 249, ..standard.clone() }, "`max_ms` is 249"),
            (BackoffConfig { jitter: 1.01, ..standard.clone() }, "`jitter` is 1.01"),
            (BackoffConfig { jitter: f64::NAN, ..standard.clone() }, "`jitter` is NaN"),
        ] {
            let error = Backoff::try_new(&config).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
        assert!(Backoff::try_new(&BackoffConfig { max_ms: 250, ..standard }).is_ok());
    }
}
