//! `/dashboard`: what was spent and saved, by whom, and why; as pages that need no script to be read.
//!
//! Computes no figure: everything shown comes from the ledger's reports, and `book` decides whose.
//! Shows a prompt or an answer only where a team's are kept, and on the page of that one call alone.
//!
//! Invariants: no page without a viewer; every answer has a content security policy that lets nothing run
//! but our own two files; whatever the URL says, a page is shown; a form of another site changes nothing.

mod assets;
mod book;
mod burn;
mod cache;
mod call;
mod calls;
mod chart;
mod door;
mod format;
mod health;
mod overview;
mod parts;
mod promise;
mod range;
mod routes;
mod series;
mod session;
mod shell;
mod sign_in;
mod splits;
mod teams;
mod text;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use maud::Markup;

use crate::gateway::Gateway;
use crate::server::viewer::refuse_foreign;
use crate::team::CallId;
use book::{Book, Read};
use door::{Refused, who};
use range::{Ask, encoded};
use session::Sessions;
use shell::Page;

/// Far more than a key.
const MOST_FORM_BYTES: usize = 4 << 10;
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the pages share.
#[derive(Clone)]
struct Dashboard {
    gateway: Arc<Gateway>,
    sessions: Arc<Sessions>,
}

/// What stands behind the `?`, if it can be read at all.
type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// All paths below `/dashboard`.
pub(super) fn routes(gateway: Arc<Gateway>) -> Router<Arc<Gateway>> {
    let dashboard = Dashboard { gateway, sessions: Arc::default() };
    Router::new()
        .route("/dashboard", get(overview_page))
        .route("/dashboard/", get(|| async { Redirect::permanent("/dashboard") }))
        .route("/dashboard/app.css", get(assets::css))
        .route("/dashboard/app.js", get(assets::js))
        .route("/dashboard/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/dashboard/sign-out", post(sign_in::sign_out))
        .route("/dashboard/{page}", get(page))
        .route("/dashboard/calls/{id}", get(call_page))
        .layer(DefaultBodyLimit::max(MOST_FORM_BYTES))
        .layer(from_fn_with_state(Arc::clone(&dashboard.gateway), turn_away_foreign))
        .layer(map_response(guard))
        .with_state(dashboard)
}

/// What keeps a browser from running or framing anything that is not ours.
async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // Without any referrer browsers would hide the origin of our own forms, too.
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Figures of a team must not stay in a proxy or in the history of a shared machine.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// What a page of another site makes a browser send is not looked at.
async fn turn_away_foreign(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    match refuse_foreign(&gateway.live(), request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => (StatusCode::FORBIDDEN, format!("{}\n", error.message)).into_response(),
    }
}

async fn overview_page(state: State<Dashboard>, uri: Uri, headers: HeaderMap, pairs: Pairs) -> Response {
    show(&state, Page::Overview, (&uri, &headers), pairs).await
}

async fn page(
    state: State<Dashboard>,
    Path(word): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    pairs: Pairs,
) -> Response {
    match Page::parse(&word) {
        Some(page) => show(&state, page, (&uri, &headers), pairs).await,
        None => nothing_here(&state, (&uri, &headers), "There is no such page.").await,
    }
}

async fn show(
    dashboard: &Dashboard,
    page: Page,
    (uri, headers): (&Uri, &HeaderMap),
    pairs: Pairs,
) -> Response {
    let viewer = match who(&dashboard.gateway, &dashboard.sessions, headers) {
        Ok(viewer) => viewer,
        Err(refused) => return turn_away(uri, headers, &refused),
    };
    let ask = Ask::parse(&pairs.map(|Query(pairs)| pairs).unwrap_or_default());
    let book = Book::open(&dashboard.gateway, &viewer, ask);
    let (body, choices) = tokio::join!(body(page, &book), shell::Choices::read(&book));
    match body.and_then(|body| choices.map(|choices| shell::page(page, &book, &choices, &body))) {
        Ok(markup) => Html(markup.into_string()).into_response(),
        Err(unread) => cannot_read(&book, page, &unread.0),
    }
}

async fn body(page: Page, book: &Book<'_>) -> Read<Markup> {
    match page {
        Page::Overview => overview::body(book).await,
        Page::Teams => teams::body(book).await,
        Page::Routes => routes::body(book).await,
        Page::Cache => cache::body(book).await,
        Page::Splits => splits::body(book).await,
        Page::Calls => calls::body(book).await,
        Page::Health => health::body(book).await,
    }
}

async fn call_page(
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    pairs: Pairs,
) -> Response {
    let viewer = match who(&dashboard.gateway, &dashboard.sessions, &headers) {
        Ok(viewer) => viewer,
        Err(refused) => return turn_away(&uri, &headers, &refused),
    };
    let ask = Ask::parse(&pairs.map(|Query(pairs)| pairs).unwrap_or_default());
    let book = Book::open(&dashboard.gateway, &viewer, ask);
    let found = match CallId::parse(&id) {
        Some(id) => book.call_with_text(id).await,
        None => Ok(None),
    };
    match found {
        Ok(Some((entry, kept))) => {
            let text = text::card_of(&book, &entry, kept.as_ref());
            let body = call::body(&book, &entry, &text);
            Html(shell::plain(Page::Calls, &book, &body).into_string()).into_response()
        }
        Ok(None) => not_found(&book, Page::Calls, "There is no such call in the book."),
        Err(unread) => cannot_read(&book, Page::Calls, &unread.0),
    }
}

async fn nothing_here(dashboard: &Dashboard, (uri, headers): (&Uri, &HeaderMap), what: &str) -> Response {
    match who(&dashboard.gateway, &dashboard.sessions, headers) {
        Ok(viewer) => {
            not_found(&Book::open(&dashboard.gateway, &viewer, Ask::default()), Page::Overview, what)
        }
        Err(refused) => turn_away(uri, headers, &refused),
    }
}

fn not_found(book: &Book<'_>, page: Page, what: &str) -> Response {
    let hint = "It may have been removed by the retention of the ledger, or belong to another team.";
    let markup = shell::plain(page, book, &parts::empty(what, &maud::html! { p { (hint) } }));
    (StatusCode::NOT_FOUND, Html(markup.into_string())).into_response()
}

fn cannot_read(book: &Book<'_>, page: Page, problem: &str) -> Response {
    tracing::error!(problem, "a page of the dashboard could not be read from the ledger");
    let hint = maud::html! {
        p { "The ledger's database does not answer. Calls go on, and their rows wait in the journal." }
        p { "The log says more; " a href="/readyz" { "/readyz" } " says what else is not ready." }
    };
    let markup = shell::plain(page, book, &parts::empty("These figures cannot be read now.", &hint));
    (StatusCode::SERVICE_UNAVAILABLE, Html(markup.into_string())).into_response()
}

/// A browser is led to the form; a script is told what to send.
fn turn_away(uri: &Uri, headers: &HeaderMap, refused: &Refused) -> Response {
    let is_browser = headers
        .get(http::header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    let (problem, is_script) = match refused {
        Refused::NotSignedIn => {
            ("send a key as `Authorization: Bearer …`, or sign in at /dashboard/sign-in".to_owned(), false)
        }
        Refused::Key(error) => (error.message.to_string(), true),
    };
    if is_browser && !is_script {
        let next = uri.path_and_query().map_or("/dashboard", |path| path.as_str());
        return Redirect::to(&format!("/dashboard/sign-in?next={}", encoded(next))).into_response();
    }
    let challenge = [(WWW_AUTHENTICATE, "Basic realm=\"stiver: your key as the password\"")];
    (StatusCode::UNAUTHORIZED, challenge, format!("{problem}\n")).into_response()
}

#[cfg(test)]
mod tests;
