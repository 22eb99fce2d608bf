//! Whether the text of a team's calls is kept, and how much of it for how long.
//!
//! Keeps nothing itself: the pipeline asks, and the ledger stores.
//!
//! Invariants: without a word of the operator nothing is kept; what is kept has a day on which it goes.

use serde::{Deserialize, Serialize};

const MS_PER_DAY: i64 = 86_400_000;
const MAX_DAYS: u32 = 3_650;
const MIN_BYTES: u32 = 1_024;
/// A text may double when it is written as JSON, and both sides of a call must fit into one record of the journal.
const MAX_BYTES: u32 = 192 << 10;

/// The `text` of a `[teams.NAME]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// Whether what the team asks and what it is answered are kept in the ledger's database. Default: no.
    pub keep: bool,
    /// Days after which a text is deleted, 1 to 3650; default 7. Its row goes on without it.
    pub days: u32,
    /// Bytes kept of a request's messages, and as many of its answer; the rest is cut off. 1024 to 196608, default 65536.
    pub max_bytes: u32,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self { keep: false, days: 7, max_bytes: 64 << 10 }
    }
}

impl TextConfig {
    /// What is wrong, by the name of the key.
    pub fn mistakes(&self) -> impl Iterator<Item = (&'static str, String)> {
        let ranges = [("days", self.days, 1, MAX_DAYS), ("max_bytes", self.max_bytes, MIN_BYTES, MAX_BYTES)];
        ranges.into_iter().filter(|(_, given, low, high)| !(low..=high).contains(&given)).map(
            |(name, given, low, high)| {
                (
                    name,
                    format!("is {given}; it must be {low} to {high}, and to keep no text, leave `keep` out"),
                )
            },
        )
    }

    /// `None` where nothing is to be kept.
    pub fn kept(&self) -> Option<KeepText> {
        self.keep.then_some(KeepText { days: self.days, max_bytes: self.max_bytes as usize })
    }
}

/// The leave to keep the text of a team's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepText {
    pub days: u32,
    /// Of each of the two sides.
    pub max_bytes: usize,
}

impl KeepText {
    /// When the text of a call that began then is to be gone.
    pub fn delete_after_ms(&self, ts_ms: i64) -> i64 {
        ts_ms.saturating_add(i64::from(self.days) * MS_PER_DAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_unless_it_is_said() {
        assert_eq!(TextConfig::default().kept(), None);
        assert_eq!(TextConfig::default().mistakes().count(), 0);
        let keep = TextConfig { keep: true, ..TextConfig::default() }.kept();
        assert_eq!(keep, Some(KeepText { days: 7, max_bytes: 65_536 }));
    }

    #[test]
    fn both_ends_of_each_range_are_taken_and_one_beyond_is_told_by_name() {
        for (days, max_bytes, expected) in [
            (1, 1_024, vec![]),
            (3_650, 196_608, vec![]),
            (0, 1_023, vec!["days", "max_bytes"]),
            (3_651, 196_609, vec!["days", "max_bytes"]),
        ] {
            let config = TextConfig { keep: true, days, max_bytes };

            let named: Vec<&str> = config.mistakes().map(|(name, _)| name).collect();
            assert_eq!(named, expected, "{config:?}");
        }
    }

    #[test]
    fn a_text_goes_when_its_days_are_over_however_many() {
        let keep = KeepText { days: 2, max_bytes: 1_024 };

        assert_eq!(keep.delete_after_ms(5), 2 * 86_400_000 + 5);
        assert_eq!(keep.delete_after_ms(i64::MAX), i64::MAX);
    }
}
