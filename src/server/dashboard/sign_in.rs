//! Signing in and out: from a key in a form to a session's cookie.
//!
//! Decides nothing about keys; the key ring does.
//!
//! Invariants: the key is never sent back, put into a cookie or logged; one leads only to pages of the
//! dashboard, so that nobody's link can use the form to lead elsewhere.

use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use secrecy::SecretString;

use super::Dashboard;
use super::door::{COOKIE_NAME, is_https, session_token, viewer_of, who};
use super::session::LIFE_MS;
use super::shell;

const HOME: &str = "/dashboard";

#[derive(serde::Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

#[derive(serde::Deserialize)]
pub(super) struct Presented {
    key: SecretString,
    #[serde(default)]
    next: String,
}

pub(super) async fn form(
    State(dashboard): State<Dashboard>,
    headers: HeaderMap,
    next: Result<Query<Next>, QueryRejection>,
) -> Response {
    let next = next.map(|Query(next)| next.next).unwrap_or_default();
    match who(&dashboard.gateway, &dashboard.sessions, &headers) {
        Ok(_) => Redirect::to(safe(&next)).into_response(),
        Err(_) => Html(page(safe(&next), None).into_string()).into_response(),
    }
}

pub(super) async fn sign_in(
    State(dashboard): State<Dashboard>,
    headers: HeaderMap,
    presented: Result<Form<Presented>, FormRejection>,
) -> Response {
    let Ok(Form(Presented { key, next })) = presented else {
        let problem = "The form could not be read; send the key as field `key`.";
        return (StatusCode::BAD_REQUEST, Html(page(HOME, Some(problem)).into_string())).into_response();
    };
    let key = SecretString::from(secrecy::ExposeSecret::expose_secret(&key).trim());
    if let Err(error) = viewer_of(&dashboard.gateway, Some(&key)) {
        let page = page(safe(&next), Some(&error.message));
        return (StatusCode::UNAUTHORIZED, Html(page.into_string())).into_response();
    }
    let token = dashboard.sessions.begin(key, dashboard.gateway.clock.now_ms());
    let cookie = cookie(&token, LIFE_MS / 1_000, is_https(&headers));
    ([(SET_COOKIE, cookie)], Redirect::to(safe(&next))).into_response()
}

pub(super) async fn sign_out(State(dashboard): State<Dashboard>, headers: HeaderMap) -> Response {
    if let Some(token) = session_token(&headers) {
        dashboard.sessions.end(token);
    }
    let cookie = cookie("", 0, is_https(&headers));
    ([(SET_COOKIE, cookie)], Redirect::to("/dashboard/sign-in")).into_response()
}

fn cookie(token: &str, max_age_s: i64, is_https: bool) -> String {
    let secure = if is_https { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={token}; Path=/dashboard; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}")
}

/// Where one is led after signing in: a page of ours, or the first one.
fn safe(next: &str) -> &str {
    let is_ours = next == HOME || next.starts_with("/dashboard/") || next.starts_with("/dashboard?");
    let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_ours && is_plain && !next.contains("..") { next } else { HOME }
}

fn page(next: &str, problem: Option<&str>) -> Markup {
    let body = html! {
        main.door {
            h1 { (shell::mark()) "Stiver" }
            p { "Sign in with a key of your team to see what it spends, or with the admin key to see all." }
            @if let Some(problem) = problem { p.notice.bad role="alert" { (problem) } }
            form method="post" action="/dashboard/sign-in" {
                input type="hidden" name="next" value=(next);
                label for="key" { "Key" }
                input #key type="password" name="key" required autofocus autocomplete="current-password"
                    placeholder="sk-stiver-…" spellcheck="false";
                button.primary type="submit" { "Sign in" }
            }
            p.hint { "No key yet? On the gateway's machine: " code { "stiver keys create --team NAME" } }
        }
    };
    shell::document("Sign in", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_led_only_to_pages_of_the_dashboard() {
        for next in ["/dashboard", "/dashboard/teams?range=7d&team=a%20b", "/dashboard?range=7d"] {
            assert_eq!(safe(next), next);
        }
        for next in [
            "",
            "//evil.example",
            "https://evil.example/dashboard",
            "/dashboards",
            "/dashboard/../admin",
            "/dashboard/\\evil.example",
            "/dashboard/\r\nset-cookie: a=b",
            "javascript:alert(1)",
        ] {
            assert_eq!(safe(next), HOME, "{next}");
        }
    }

    #[test]
    fn the_cookie_is_for_the_dashboard_alone_and_for_no_script() {
        let plain = cookie("abc", 60, false);

        assert_eq!(plain, "stiver_session=abc; Path=/dashboard; Max-Age=60; HttpOnly; SameSite=Strict");
        assert_eq!(cookie("abc", 60, true), format!("{plain}; Secure"));
    }

    #[test]
    fn the_form_escapes_what_it_repeats() {
        let markup = page("/dashboard/x?\"><b>", Some("<i>")).into_string();

        assert!(!markup.contains("<b>") && !markup.contains("<i>"), "{markup}");
    }
}
