//! What a scope can show for itself.
//!
//! Figures to look at; nothing is decided by them.

/// How a scope stands: its requests on all replicas, as far as they were heard of, and its tier on this one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    pub n_requests: u64,
    pub n_hits: u64,
    /// Wrong answers a request, as its audits let one guess; each that found one stands for those like it
    /// that were not audited.
    pub false_hit_rate: f64,
    /// Wrong answers a request, at most, with `confidence`.
    pub false_hit_rate_upper: f64,
    pub confidence: f64,
    pub max_false_hit_rate: f64,
    pub n_audits: u64,
    pub n_wrong_audits: u64,
    /// Verdicts that were learned from, of audits and of misses.
    pub n_labels: u64,
    pub tier: Tier,
    /// The most doubtful candidate that is served; none while the tier is closed.
    pub p_wrong_max: Option<f64>,
    /// The least audit share at present; none while nothing can be paid for.
    pub audit_share: Option<f64>,
    /// Wrong answers that could still be paid for.
    pub available: f64,
}

impl Standing {
    pub fn hit_rate(&self) -> Option<f64> {
        (self.n_requests > 0).then(|| self.n_hits as f64 / self.n_requests as f64)
    }
}

/// Whether answers are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// None was served yet: there are too few verdicts or requests.
    Learning,
    Open,
    Closed(WhyClosed),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyClosed {
    /// No bar is strict enough for what verdicts showed.
    Doubtful,
    /// What was earned is spent.
    Unpayable,
}

impl Tier {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Open => "open",
            Self::Closed(_) => "closed",
        }
    }
}
