//! How scopes stand that were promised few wrong cached answers.
//!
//! Labels are a team and a route, both of the configuration or the database, so their number is bounded.

use metrics::{describe_gauge, gauge};

pub(super) fn describe() {
    describe_gauge!(
        "stiver_cache_false_hit_rate",
        "Wrong cached answers a request as audits let one guess, by scope (team and route)"
    );
    describe_gauge!(
        "stiver_cache_false_hit_rate_upper",
        "Wrong cached answers a request at most, with the promised confidence, by scope"
    );
    describe_gauge!(
        "stiver_cache_audit_share",
        "Least share of semantic hits that are also sent upstream to be compared, by scope; 1 while none could be paid for"
    );
    describe_gauge!(
        "stiver_cache_semantic_open",
        "1 while the semantic cache serves a scope, 0 while it learns or is closed, by scope"
    );
}

/// A scope was looked after.
pub struct ScopeStood<'a> {
    pub scope: &'a str,
    pub false_hit_rate: f64,
    pub false_hit_rate_upper: f64,
    pub audit_share: f64,
    pub is_open: bool,
}

impl ScopeStood<'_> {
    pub fn emit(&self) {
        let scope = || self.scope.to_owned();
        gauge!("stiver_cache_false_hit_rate", "scope" => scope()).set(self.false_hit_rate);
        gauge!("stiver_cache_false_hit_rate_upper", "scope" => scope()).set(self.false_hit_rate_upper);
        gauge!("stiver_cache_audit_share", "scope" => scope()).set(self.audit_share);
        gauge!("stiver_cache_semantic_open", "scope" => scope()).set(f64::from(u8::from(self.is_open)));
    }
}
