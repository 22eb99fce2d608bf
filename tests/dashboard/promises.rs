//! Made-up lines of risk for the dashboard's tests: scopes that were promised few wrong cached answers.
//!
//! Always the same; the risk control itself counts them. One has names that are attacks on a page.

use stiver::cache::risk::{Candidate, EntryKey, GroupKey, Neighbour, Risk, RiskConfig, Scope};
use stiver::ledger::risk_lines::RiskLine;

use super::rows::{EVIL, EVIL_TEAM};

/// A scope, its requests, and how many questions come for one that its candidate is wrong for.
fn scopes() -> [(String, u64, u64); 4] {
    [
        ("search/auto".to_owned(), 6_000, 500),
        ("support/auto".to_owned(), 40, 50),
        ("support/chat".to_owned(), 900, 3),
        (format!("{EVIL_TEAM}/{EVIL}"), 700, 1_000),
    ]
}

/// What an earlier process left of them.
pub(super) fn lines() -> Vec<RiskLine> {
    let mut risk = Risk::new(&RiskConfig::default());
    let line = |(scope, n_requests, one_in): (String, u64, u64)| {
        let name = Scope::new(scope.as_str());
        for nth in 1..=n_requests {
            // Far from one another, and the same each time.
            let draw = (nth as f64 * 0.618_033_988_75).fract();
            let decision = risk.decide(&name, candidate(), draw);
            risk.observe(&name, &decision, !nth.is_multiple_of(one_in));
        }
        let account = risk.send_account(&name).to_json().expect("an account can be written");
        let replica = "of-an-earlier-process".to_owned();
        RiskLine { scope, replica, account, model_saved_at_ms: None, saved_at_ms: 0 }
    };
    scopes().into_iter().map(line).collect()
}

fn candidate() -> Option<Candidate> {
    let near = |entry| Neighbour {
        entry: EntryKey(entry),
        group: GroupKey(1),
        similarity: 0.98,
        text: "how do I cancel an order",
    };
    Candidate::among("how do I cancel an order", &[near(1), near(2), near(3)])
}
