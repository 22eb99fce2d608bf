//! How often the cache found what, since it was opened.
//!
//! Counts only; rates and money are the ledger's.

use std::sync::atomic::{AtomicU64, Ordering};

use super::question::{Found, HitKind};
use super::semantic::{Learned, Sighting};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    pub n_exact_hits: u64,
    pub n_coalesced_hits: u64,
    pub n_semantic_hits: u64,
    pub n_misses: u64,
    pub n_bypasses: u64,
    /// Neighbours alike enough that the guard told apart.
    pub n_guard_refusals: u64,
    /// Entries that audits found wrong again and again, and that were removed.
    pub n_condemned: u64,
    pub n_errors: u64,
    /// `None` where there is no exact tier, or Redis keeps it for all replicas.
    pub n_exact_entries: Option<u64>,
    /// As above.
    pub exact_bytes: Option<u64>,
    /// `None` where there is no semantic tier, or it does not answer.
    pub n_semantic_entries: Option<u64>,
    /// `None` where there is no semantic tier, or Qdrant keeps it for all replicas.
    pub semantic_bytes: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    exact_hits: AtomicU64,
    coalesced_hits: AtomicU64,
    semantic_hits: AtomicU64,
    misses: AtomicU64,
    bypasses: AtomicU64,
    guard_refusals: AtomicU64,
    condemned: AtomicU64,
}

impl Counts {
    pub(super) fn count(&self, found: &Found) {
        let counter = match found {
            Found::Hit(hit) | Found::Audited(hit, _) => match hit.kind {
                HitKind::Exact => &self.exact_hits,
                HitKind::Coalesced => &self.coalesced_hits,
                HitKind::Semantic { .. } => &self.semantic_hits,
            },
            Found::Miss(_) => &self.misses,
            Found::Bypass(_) => &self.bypasses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, sighting: &Sighting) {
        self.guard_refusals.fetch_add(sighting.told_apart.len() as u64, Ordering::Relaxed);
        for why in &sighting.told_apart {
            metrics::counter!("stiver_cache_guard_refusals_total", "why" => why.as_str()).increment(1);
        }
        if let Some(refusal) = sighting.refusal {
            metrics::counter!("stiver_cache_risk_refusals_total", "why" => refusal.as_str()).increment(1);
        }
    }

    pub(super) fn learn(&self, learned: &Learned) {
        let Learned { right: Some(right), is_audit, condemned } = learned else { return };
        let outcome = if *right { "right" } else { "wrong" };
        if *is_audit {
            metrics::counter!("stiver_cache_verdicts_total", "outcome" => outcome).increment(1);
        }
        self.condemned.fetch_add(u64::from(condemned.is_some()), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            n_exact_hits: read(&self.exact_hits),
            n_coalesced_hits: read(&self.coalesced_hits),
            n_semantic_hits: read(&self.semantic_hits),
            n_misses: read(&self.misses),
            n_bypasses: read(&self.bypasses),
            n_guard_refusals: read(&self.guard_refusals),
            n_condemned: read(&self.condemned),
            ..Stats::default()
        }
    }
}
