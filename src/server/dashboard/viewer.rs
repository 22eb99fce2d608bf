//! Who looks at the dashboard, and from where a request that changes something came.
//!
//! The one place that turns a request into a [`Viewer`]; what a viewer may see is `book`'s to hold.
//!
//! Invariants: without a key nobody is let in once a key is configured; a wrong key is told the same
//! whatever is wrong with it; a form sent from another site changes nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderName, ORIGIN};
use secrecy::{ExposeSecret, SecretString};

use super::session::Sessions;
use crate::admission::KeyRefused;
use crate::gateway::Gateway;
use crate::team::TeamName;

pub(super) const COOKIE_NAME: &str = "stiver_session";

/// Who looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Viewer {
    /// No key is configured, so this machine's users see everything.
    Anybody,
    Admin,
    Team(TeamName),
}

impl Viewer {
    /// The only team that this viewer may see; `None` for all of them.
    pub(super) fn only_team(&self) -> Option<&TeamName> {
        match self {
            Self::Anybody | Self::Admin => None,
            Self::Team(name) => Some(name),
        }
    }
}

/// Why nobody is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// Nothing was presented, or a session that has ended.
    NotSignedIn,
    Key(KeyRefused),
}

/// Who sent this request.
pub(super) fn who(gateway: &Gateway, sessions: &Sessions, headers: &HeaderMap) -> Result<Viewer, Refused> {
    let presented = presented(headers);
    let remembered = || sessions.key(session_token(headers)?, gateway.clock.now_ms());
    let is_script = presented.is_some();
    let key = presented.or_else(remembered);
    match viewer_of(gateway, key.as_ref()) {
        Ok(viewer) => Ok(viewer),
        Err(refused) if is_script => Err(Refused::Key(refused)),
        Err(_) => Err(Refused::NotSignedIn),
    }
}

/// Whom a key stands for.
pub(super) fn viewer_of(gateway: &Gateway, key: Option<&SecretString>) -> Result<Viewer, KeyRefused> {
    let live = gateway.live();
    let ring = live.key_ring();
    if ring.is_open() {
        return Ok(Viewer::Anybody);
    }
    let key = key.map(ExposeSecret::expose_secret);
    let caller = ring.admit(key, gateway.clock.now_ms())?;
    Ok(Viewer::Team(caller.team.name.clone()))
}

/// A key as scripts send it: as a bearer token, or as the password of HTTP basic authentication.
fn presented(headers: &HeaderMap) -> Option<SecretString> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(SecretString::from(rest.trim()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| SecretString::from(password))
}

pub(super) fn session_token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(name, _)| *name == COOKIE_NAME).map(|(_, token)| token)
}

/// Whether a form may change something: it came from a page of ours, or from no browser at all.
pub(super) fn is_from_here(headers: &HeaderMap) -> bool {
    let get = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let is_site_ours = get(HeaderName::from_static("sec-fetch-site"))
        .is_none_or(|site| matches!(site, "same-origin" | "none"));
    let is_origin_ours = get(ORIGIN).is_none_or(|origin| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some() && authority == get(HOST)
    });
    is_site_ours && is_origin_ours
}

/// Whether the browser speaks TLS, to us or to a proxy in front.
pub(super) fn is_https(headers: &HeaderMap) -> bool {
    let says = |name: HeaderName, begins: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.starts_with(begins))
    };
    says(ORIGIN, "https://") || says(HeaderName::from_static("x-forwarded-proto"), "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn key(pairs: &[(&'static str, &str)]) -> Option<String> {
        presented(&headers(pairs)).map(|key| key.expose_secret().to_owned())
    }

    #[test]
    fn scripts_send_a_key_as_bearer_or_as_a_password() {
        let basic = format!("Basic {}", STANDARD.encode("anybody:sk-1:2"));

        assert_eq!(key(&[("authorization", "Bearer  sk-1 ")]).as_deref(), Some("sk-1"));
        assert_eq!(key(&[("authorization", &basic)]).as_deref(), Some("sk-1:2"));
        for wrong in ["Basic !", "Basic c2stMQ==", "Digest a:b", "sk-1", ""] {
            assert_eq!(key(&[("authorization", wrong)]), None, "{wrong}");
        }
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let token = |cookies| session_token(&headers(&[("cookie", cookies)])).map(str::to_owned);

        assert_eq!(token("a=1; stiver_session=abc; b=2").as_deref(), Some("abc"));
        assert_eq!(token("xstiver_session=abc"), None);
        assert_eq!(token(""), None);
    }

    #[test]
    fn forms_of_other_sites_are_told() {
        for (pairs, expected) in [
            (&[("host", "gw:8080")][..], true),
            (&[("host", "gw:8080"), ("origin", "http://gw:8080")], true),
            (&[("host", "gw:8080"), ("origin", "https://gw:8080"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "gw:8080"), ("origin", "http://gw:8081")], false),
            (&[("host", "gw:8080"), ("origin", "http://evil.example")], false),
            (&[("host", "gw:8080"), ("origin", "null")], false),
            (&[("host", "gw:8080"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "gw:8080"), ("sec-fetch-site", "same-site")], false),
            (&[("origin", "http://gw:8080")], false),
        ] {
            assert_eq!(is_from_here(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_proxy_or_the_origin_tells_of_tls() {
        assert!(is_https(&headers(&[("origin", "https://gw")])));
        assert!(is_https(&headers(&[("x-forwarded-proto", "https")])));
        assert!(!is_https(&headers(&[("origin", "http://gw")])));
        assert!(!is_https(&headers(&[])));
    }
}
