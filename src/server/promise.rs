//! How the promise on cached answers stands, scope by scope, for the dashboard and for `/admin/v1/cache`.
//!
//! Decides nothing; the figures are the risk control's.
//!
//! Invariants: nobody is told of a scope of a team that is not his, even where one team's name begins like
//! another's.

use super::viewer::Viewer;
use crate::cache::risk::{Standing, Tier, WhyClosed};
use crate::gateway::Gateway;
use crate::ledger::report::Filter;
use crate::team::TeamName;

/// A team's requests on a route, and how they stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ScopeStanding {
    pub(super) scope: String,
    pub(super) team: String,
    pub(super) route: String,
    pub(super) standing: Standing,
}

/// The scopes that a viewer may see and that `filter` lets pass, by name.
pub(super) fn scopes(gateway: &Gateway, viewer: &Viewer, filter: &Filter) -> Vec<ScopeStanding> {
    let live = gateway.live();
    let ring = live.key_ring();
    let teams: Vec<&str> = ring.teams().map(|team| team.name.as_str()).collect();
    let found = gateway.cache.standings().into_iter().filter_map(|(scope, standing)| {
        let (team, route) = parts(scope.as_str(), &teams)?;
        let (team, route) = (team.to_owned(), route.to_owned());
        Some(ScopeStanding { scope: scope.as_str().to_owned(), team, route, standing })
    });
    let is_asked = |one: &ScopeStanding| {
        viewer.may_see(&TeamName::from(&one.team))
            && filter.team.as_ref().is_none_or(|team| team.as_str() == one.team)
            && filter.route.as_ref().is_none_or(|route| route.as_str() == one.route)
    };
    found.filter(is_asked).collect()
}

/// A scope's team and route: the longest team that it begins with, as both may have a stroke in their names.
fn parts<'a>(scope: &'a str, teams: &[&str]) -> Option<(&'a str, &'a str)> {
    let of_team = |team: &&str| scope.strip_prefix(*team).is_some_and(|rest| rest.starts_with('/'));
    match teams.iter().copied().filter(of_team).map(str::len).max() {
        Some(n_bytes) => Some((&scope[..n_bytes], &scope[n_bytes + 1..])),
        // A team that is gone, or that needed no key.
        None => scope.split_once('/'),
    }
}

/// Why answers are served or not, in words.
pub(super) fn why(standing: &Standing) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    match standing.tier {
        Tier::Learning => {
            let n_labels = standing.n_labels;
            format!(
                "no answer was served yet: it waits for verdicts ({n_labels} so far) and for requests to pay for a wrong one"
            )
        }
        Tier::Open => {
            let at_most = standing.p_wrong_max.map_or_else(String::new, percent);
            let audited = standing.audit_share.map_or_else(String::new, percent);
            format!("serves what is wrong with a probability of {at_most} or less, and audits {audited} of it or more")
        }
        Tier::Closed(WhyClosed::Doubtful) => {
            "verdicts found too many wrong: nothing is served until misses show that it would be right".to_owned()
        }
        Tier::Closed(WhyClosed::Unpayable) => {
            "the wrong answers that the promise allows are spent: nothing is served until requests have paid in"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_of_the_longest_team_that_it_begins_with() {
        let teams = ["shop", "shop/eu", "sho"];
        for (scope, expected) in [
            ("shop/auto", Some(("shop", "auto"))),
            ("shop/eu/auto", Some(("shop/eu", "auto"))),
            ("shop/eu", Some(("shop", "eu"))),
            ("shop/openai/gpt", Some(("shop", "openai/gpt"))),
            ("gone/auto", Some(("gone", "auto"))),
            ("*", None),
        ] {
            assert_eq!(parts(scope, &teams), expected, "{scope}");
        }
    }
}
