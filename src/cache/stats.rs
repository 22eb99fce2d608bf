//! How often the cache found what, since it was opened.
//!
//! Counts only; rates and money are the ledger's.

use std::sync::atomic::{AtomicU64, Ordering};

use super::guard::Why;
use super::question::{Found, HitKind};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    pub n_exact_hits: u64,
    pub n_coalesced_hits: u64,
    pub n_semantic_hits: u64,
    pub n_misses: u64,
    pub n_bypasses: u64,
    /// Neighbours alike enough that the guard told apart.
    pub n_guard_refusals: u64,
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

    pub(super) fn refuse(&self, whys: &[Why]) {
        self.guard_refusals.fetch_add(whys.len() as u64, Ordering::Relaxed);
        for why in whys {
            metrics::counter!("stiver_cache_guard_refusals_total", "why" => why.as_str()).increment(1);
        }
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
            ..Stats::default()
        }
    }
}
