//! What is told of A/B splits: the calls of each arm, and splits that no call comes to.
//!
//! Labels are names of the configuration, so their number is bounded by it.

use metrics::{counter, describe_counter, describe_gauge, gauge};

pub(super) fn describe() {
    describe_counter!("stiver_split_calls_total", "Calls admitted into an arm, by split and arm");
    describe_counter!(
        "stiver_split_unassigned_calls_total",
        "Calls of a split's route that lack what the split goes by, such as a header"
    );
    describe_gauge!("stiver_split_idle", "1 while a split has had no call in any arm for a day, else 0");
}

/// A call was admitted into an arm.
pub struct SplitMatched<'a> {
    pub split: &'a str,
    pub arm: &'a str,
}

impl SplitMatched<'_> {
    pub fn emit(&self) {
        let (split, arm) = (self.split.to_owned(), self.arm.to_owned());
        counter!("stiver_split_calls_total", "split" => split, "arm" => arm).increment(1);
    }
}

/// A call of the split's route has nothing that could be kept in one arm.
pub struct SplitMissed<'a> {
    pub split: &'a str,
}

impl SplitMissed<'_> {
    pub fn emit(&self) {
        counter!("stiver_split_unassigned_calls_total", "split" => self.split.to_owned()).increment(1);
    }
}

/// A split was looked after.
pub struct SplitWatched<'a> {
    pub split: &'a str,
    pub is_idle: bool,
    /// Nobody was told of it today.
    pub is_news: bool,
}

impl SplitWatched<'_> {
    pub fn emit(&self) {
        let idle = if self.is_idle { 1.0 } else { 0.0 };
        gauge!("stiver_split_idle", "split" => self.split.to_owned()).set(idle);
        if self.is_news {
            tracing::warn!(
                split.name = self.split,
                "no call came to this split for a day; check its route and its unit in splits.toml, or end it"
            );
        }
    }
}
