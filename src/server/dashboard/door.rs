//! The door of the dashboard: from a request's headers to who looks, by key or by session.
//!
//! Judges no key; [`crate::server::viewer`] does. What a viewer may see is `book`'s to hold.
//!
//! Invariants: whoever presents a key is judged by it, whatever session a cookie names; a key is judged
//! anew on every request, so that one that was revoked opens nothing.

use http::HeaderMap;
use http::header::{COOKIE, HeaderName, ORIGIN};
use secrecy::{ExposeSecret, SecretString};

use super::session::Sessions;
use crate::error::Error;
use crate::gateway::Gateway;
use crate::server::viewer::{Viewer, presented_key, viewer};

pub(super) const COOKIE_NAME: &str = "stiver_session";

/// Why nobody is let in.
#[derive(Debug)]
pub(super) enum Refused {
    /// Nothing was presented, or a session that has ended.
    NotSignedIn,
    Key(Error),
}

/// Who sent this request.
pub(super) fn who(gateway: &Gateway, sessions: &Sessions, headers: &HeaderMap) -> Result<Viewer, Refused> {
    if let Some(key) = presented_key(headers) {
        return viewer_of(gateway, Some(&SecretString::from(key))).map_err(Refused::Key);
    }
    let remembered = session_token(headers).and_then(|token| sessions.key(token, gateway.clock.now_ms()));
    viewer_of(gateway, remembered.as_ref()).map_err(|_| Refused::NotSignedIn)
}

/// Whom a key stands for.
pub(super) fn viewer_of(gateway: &Gateway, key: Option<&SecretString>) -> Result<Viewer, Error> {
    viewer(&gateway.live(), key.map(ExposeSecret::expose_secret), gateway.clock.now_ms())
}

pub(super) fn session_token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, token)| token)
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
        let pair =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let token = |cookies| session_token(&headers(&[("cookie", cookies)])).map(str::to_owned);

        assert_eq!(token("a=1; stiver_session=abc; b=2").as_deref(), Some("abc"));
        assert_eq!(token("xstiver_session=abc"), None);
        assert_eq!(token(""), None);
    }

    #[test]
    fn a_proxy_or_the_origin_tells_of_tls() {
        assert!(is_https(&headers(&[("origin", "https://gw")])));
        assert!(is_https(&headers(&[("x-forwarded-proto", "https")])));
        assert!(!is_https(&headers(&[("origin", "http://gw")])));
        assert!(!is_https(&headers(&[])));
    }
}
