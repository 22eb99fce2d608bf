//! The style sheet and the script: compiled in, named by their content, kept by browsers for good.
//!
//! They hold nothing of anybody, so they need no key.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

const CSS: &str = include_str!("app.css");
const JS: &str = include_str!("app.js");
const FOR_GOOD: &str = "public, max-age=31536000, immutable";
/// Whoever asks by another name than the content's must ask again.
const NOT_KEPT: &str = "no-cache";

#[derive(serde::Deserialize)]
pub(super) struct Version {
    #[serde(default)]
    v: String,
}

type Asked = Result<Query<Version>, QueryRejection>;

pub(super) async fn css(version: Asked) -> Response {
    answer("text/css; charset=utf-8", CSS, version)
}

pub(super) async fn js(version: Asked) -> Response {
    answer("text/javascript; charset=utf-8", JS, version)
}

fn answer(kind: &'static str, text: &'static str, version: Asked) -> Response {
    let is_this_one = version.is_ok_and(|Query(asked)| asked.v == hash(text));
    let kept = if is_this_one { FOR_GOOD } else { NOT_KEPT };
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, kept)], text).into_response()
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..12].to_owned()
}

pub(super) fn css_path() -> String {
    format!("/dashboard/app.css?v={}", hash(CSS))
}

pub(super) fn js_path() -> String {
    format!("/dashboard/app.js?v={}", hash(JS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(version: &str) -> String {
        let version = Ok(Query(Version { v: version.to_owned() }));
        let response = answer("text/css", CSS, version);
        response.headers()[CACHE_CONTROL].to_str().unwrap().to_owned()
    }

    #[test]
    fn only_what_is_named_by_its_content_is_kept_for_good() {
        assert_eq!(kept(&hash(CSS)), FOR_GOOD);
        assert_eq!(kept("0123456789ab"), NOT_KEPT);
        assert_ne!(css_path(), js_path());
    }

    #[test]
    fn the_style_sheet_loads_nothing_from_elsewhere() {
        for part in ["http:", "https:", "@import", "url("] {
            assert!(!CSS.contains(part), "{part}");
        }
    }
}
