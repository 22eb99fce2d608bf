//! Who looks at the book: the operator, who sees everything, or a team, which sees itself.
//!
//! Admits no calls; `admission` knows the keys.
//!
//! Invariants: a team's view is narrowed here and nowhere else, by writing its name into the filter of
//! every question; a page of another site can make a browser send nothing that changes anything.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, Method};

use crate::error::{Blame, Error, Result};
use crate::gateway::Live;
use crate::ledger::report::Filter;
use crate::team::TeamName;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Viewer {
    Operator,
    Team(TeamName),
}

impl Viewer {
    /// The filter as this viewer may use it.
    pub(super) fn narrow(&self, mut filter: Filter) -> Filter {
        if let Self::Team(team) = self {
            filter.team = Some(team.clone());
        }
        filter
    }

    pub(super) fn may_see(&self, team: &TeamName) -> bool {
        match self {
            Self::Operator => true,
            Self::Team(own) => own == team,
        }
    }

    pub(super) fn require_operator(&self) -> Result<()> {
        match self {
            Self::Operator => Ok(()),
            Self::Team(team) => {
                let message = format!("the key of team `{team}` may not do this; send the key of `[admin]`");
                Err(Error::new(Blame::Policy, 403, "permission_error", message).with_code("operator_only"))
            }
        }
    }
}

/// The viewer that a key stands for.
///
/// While no key, no team and no admin key is configured the gateway listens on loopback only, and everybody
/// is the operator.
pub(super) fn viewer(live: &Live, presented: Option<&str>, now_ms: i64) -> Result<Viewer> {
    let admin = live.admin();
    if presented.is_some_and(|key| admin.opens(key)) {
        return Ok(Viewer::Operator);
    }
    let ring = live.key_ring();
    if ring.is_open() {
        if !admin.is_set() {
            return Ok(Viewer::Operator);
        }
        let message = "this asks for the key of `[admin]`; send it as `Authorization: Bearer …`";
        return Err(
            Error::new(Blame::Caller, 401, "authentication_error", message).with_code("invalid_api_key")
        );
    }
    Ok(Viewer::Team(ring.admit(presented, now_ms)?.team.name.clone()))
}

/// The key in the headers: as a bearer token, as `api-key`, or as the password of basic authentication.
pub(super) fn presented_key(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(authorization) = text(AUTHORIZATION.as_str()) else {
        return text("api-key").map(str::to_owned);
    };
    let (scheme, rest) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

/// Refuses what a browser sends for a page that is not ours.
pub(super) fn refuse_foreign(live: &Live, method: &Method, headers: &HeaderMap) -> Result<()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(HOST.as_str()).unwrap_or("");
    let is_open = live.key_ring().is_open() && !live.admin().is_set();
    // Without keys the address is all that protects: a name that somebody points at 127.0.0.1 is not ours.
    if is_open && !host.is_empty() && !is_loopback(host) {
        return Err(foreign(&format!("host `{host}` is not this machine; use 127.0.0.1 or configure a key")));
    }
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let is_own = |origin: &str| origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host));
    match (text(ORIGIN.as_str()), text("sec-fetch-site")) {
        (Some(origin), _) if !is_own(origin) => {
            Err(foreign(&format!("origin `{origin}` is another site; open the dashboard itself")))
        }
        (_, Some(site)) if !matches!(site, "same-origin" | "none") => {
            Err(foreign("another site sent this; open the dashboard itself"))
        }
        _ => Ok(()),
    }
}

fn foreign(message: &str) -> Error {
    Error::new(Blame::Caller, 403, "permission_error", message).with_code("foreign_origin")
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_key_is_read_from_every_place_it_may_stand_in() {
        let basic = format!("Basic {}", STANDARD.encode("anybody:k:1"));
        for (pairs, expected) in [
            (vec![("authorization", "bearer  k1 ")], Some("k1")),
            (vec![("authorization", basic.as_str())], Some("k:1")),
            (vec![("api-key", "k1")], Some("k1")),
            (vec![("authorization", "Digest x")], None),
            (vec![("authorization", "Basic ???")], None),
            (vec![], None),
        ] {
            assert_eq!(presented_key(&headers(&pairs)).as_deref(), expected, "{pairs:?}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.9.9.9", "[::1]:8080", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example", "[2001:db8::1]:80", "10.0.0.1", "localhost.evil"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_team_cannot_widen_its_filter() {
        let other = Filter { team: Some(TeamName::from("other")), ..Filter::default() };
        let team = Viewer::Team(TeamName::from("search"));

        assert_eq!(team.narrow(other.clone()).team, Some(TeamName::from("search")));
        assert_eq!(team.narrow(Filter::default()).team, Some(TeamName::from("search")));
        assert_eq!(Viewer::Operator.narrow(other.clone()).team, other.team);
        assert!(team.require_operator().is_err() && Viewer::Operator.require_operator().is_ok());
    }
}
