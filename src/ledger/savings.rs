//! Why a call cost less than its baseline, cause by cause.
//!
//! Pure. Does not price: cost and baseline come in as they were metered.
//!
//! Invariants: `net` is the sum of what the gateway did, less its own cost; what a provider's prefix cache
//! took off the bill is told beside it and is not in the sum, because it comes without a gateway, too.

use serde::{Deserialize, Serialize};

use super::entry::{AnswerPath, Entry};
use crate::money::NanoUsd;

/// Dollars saved by cause. A cause may be negative: a dearer model was the better choice, or the plan fell through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Savings {
    /// The same question had been answered.
    pub exact: NanoUsd,
    /// A question of the same meaning had been answered.
    pub semantic: NanoUsd,
    /// A cheaper upstream than the baseline answered.
    pub route_down: NanoUsd,
    /// The house's own engine answered.
    pub local: NanoUsd,
    /// The prompt was shortened.
    pub compression: NanoUsd,
    /// The provider's discount for prompts it had cached; not in [`Savings::net`].
    pub prefix_cache: NanoUsd,
    /// What the gateway itself spent to save: audits, judges and the like.
    pub own_cost: NanoUsd,
}

impl Savings {
    /// The causes of one row; nothing where its cost or its baseline is unknown.
    pub fn of(entry: &Entry) -> Self {
        let difference = entry.saved().unwrap_or(NanoUsd::ZERO);
        Self::by_path(entry.path, difference, &entry.aside)
    }

    /// Splits the difference between baseline and cost of rows that one path answered.
    pub fn by_path(path: AnswerPath, difference: NanoUsd, aside: &Aside) -> Self {
        let Aside { compression_saved, prefix_saved, own_cost } = *aside;
        let mut savings =
            Self { compression: compression_saved, prefix_cache: prefix_saved, own_cost, ..Self::default() };
        match path {
            AnswerPath::Exact => savings.exact = difference,
            AnswerPath::Semantic => savings.semantic = difference,
            AnswerPath::Local => savings.local = difference,
            AnswerPath::Upstream => savings.route_down = difference - compression_saved,
            // Its baseline is nothing: without a cache there were nothing to check.
            AnswerPath::Audit => savings.own_cost -= difference,
            AnswerPath::None => {}
        }
        savings
    }

    pub fn net(&self) -> NanoUsd {
        self.exact + self.semantic + self.route_down + self.local + self.compression - self.own_cost
    }

    pub fn add(&mut self, other: &Self) {
        self.exact += other.exact;
        self.semantic += other.semantic;
        self.route_down += other.route_down;
        self.local += other.local;
        self.compression += other.compression;
        self.prefix_cache += other.prefix_cache;
        self.own_cost += other.own_cost;
    }
}

/// Money beside the call's own cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// What the prompt would have cost more before it was shortened.
    pub compression_saved: NanoUsd,
    /// What the provider's prefix cache took off the bill.
    pub prefix_saved: NanoUsd,
    /// What the gateway spent on its own account for this call.
    pub own_cost: NanoUsd,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(n: i64) -> NanoUsd {
        NanoUsd::new(n)
    }

    #[test]
    fn the_causes_of_every_path_add_up_to_the_difference_less_our_own_cost() {
        let aside = Aside { compression_saved: nanos(10), prefix_saved: nanos(1_000), own_cost: nanos(3) };
        for path in [AnswerPath::Exact, AnswerPath::Semantic, AnswerPath::Local] {
            let no_compression = Aside { compression_saved: NanoUsd::ZERO, ..aside };
            assert_eq!(Savings::by_path(path, nanos(100), &no_compression).net(), nanos(97), "{path:?}");
        }
        let upstream = Savings::by_path(AnswerPath::Upstream, nanos(100), &aside);
        assert_eq!(
            (upstream.route_down, upstream.compression, upstream.net()),
            (nanos(90), nanos(10), nanos(97))
        );
        assert_eq!(Savings::by_path(AnswerPath::None, nanos(100), &Aside::default()).net(), NanoUsd::ZERO);
        let audit = Savings::by_path(AnswerPath::Audit, nanos(-70), &Aside::default());
        assert_eq!((audit.own_cost, audit.net()), (nanos(70), nanos(-70)));
    }

    #[test]
    fn a_dearer_answer_than_the_baseline_is_a_negative_saving() {
        let savings = Savings::by_path(AnswerPath::Upstream, nanos(-40), &Aside::default());

        assert_eq!((savings.route_down, savings.net()), (nanos(-40), nanos(-40)));
    }
}
