//! Accepts connections, enters calls in the book, and refuses those without a key.
//!
//! Leaves the answers to [`super::reply`] and the pages for steering to [`super::hand`].
//!
//! Invariants: every call is in the book before anything is answered; a refused call is never billed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Collected};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::behaviour::Behaviour;
use super::book::{Book, CallId, Ending, SeenCall};
use super::fault::ApiError;
use super::player::{Gate, OpenCall};
use super::prebuilt::Shelf;
use super::reply::{self, Admitted, Body};
use super::request::{Ask, Endpoint};
use super::script::Scripts;
use super::socket::{ResetSwitch, Socket};
use super::{Options, hand};

/// What all connections share.
pub struct Shared {
    pub book: Arc<Book>,
    pub scripts: Mutex<Scripts>,
    pub gate: Gate,
    pub options: Options,
    shelf: Option<Shelf>,
    n_connections: AtomicU64,
}

impl Shared {
    pub fn new(options: Options) -> Self {
        let book = Arc::new(Book::new(options.n_kept));
        Self {
            book,
            scripts: Mutex::default(),
            gate: Gate::default(),
            shelf: options.prebuilt.then(Shelf::default),
            options,
            n_connections: AtomicU64::new(0),
        }
    }

    pub fn reset(&self) {
        *self.scripts.lock() = Scripts::default();
        self.book.reset();
    }

    /// Any key will do, but none, or one that says it is bad.
    pub fn authorize(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if !self.options.requires_key {
            return Ok(());
        }
        let key =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match key.strip_prefix("Bearer ") {
            Some(key) if !key.is_empty() && !key.starts_with("bad") => Ok(()),
            Some(_) => Err(ApiError::of_status(401, None)),
            None => Err(ApiError::of_status(401, Some("You didn't provide an API key."))),
        }
    }

    fn behaviour(&self, ask: &Ask) -> Result<Behaviour, ApiError> {
        let behaviour = self.scripts.lock().behaviour(&ask.model, &ask.suffix, ask.steering_text());
        behaviour.map_err(ApiError::bad_request)
    }
}

/// The connection a call came on.
#[derive(Clone)]
struct Line {
    number: u64,
    reset: ResetSwitch,
}

/// Accepts until stopped.
pub async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // An error is a connection lost before it began; the next one may be well.
        let Ok((stream, _)) = accepted else { continue };
        let (shared, stop) = (shared.clone(), stop.clone());
        tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serve(stream, shared) => {}
            }
        });
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let Ok(socket) = Socket::new(stream) else { return };
    let number = shared.n_connections.fetch_add(1, Ordering::Relaxed);
    let line = Line { number, reset: socket.reset_switch() };
    let service = service_fn(move |request| {
        let (shared, line) = (shared.clone(), line.clone());
        async move { Ok::<_, Infallible>(respond(&shared, line, request).await) }
    });
    // An error is a client that left or a scripted cut; the book has it.
    drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await);
}

async fn respond(shared: &Shared, line: Line, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(Collected::to_bytes) else {
        return reply::error(&ApiError::bad_request("The request body did not arrive.".to_owned()));
    };
    let endpoint = match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/chat/completions") => Endpoint::Chat,
        (&Method::POST, "/v1/completions") => Endpoint::Completions,
        (&Method::POST, "/v1/embeddings") => Endpoint::Embeddings,
        place => return hand::page(shared, place, &head.headers, &body),
    };
    let permitted = shared.authorize(&head.headers);
    let shelf = shared.shelf.as_ref().filter(|_| endpoint == Endpoint::Chat && permitted.is_ok());
    if let Some(ready) = shelf.and_then(|shelf| shelf.answer_to(&body)) {
        return reply::prebuilt(ready);
    }
    let read = Ask::read(endpoint, &body);
    let id = enter(shared, &line, head, (body, &read));
    let mut call = OpenCall::new(shared.book.clone(), id);
    let decided = permitted.and(read).and_then(|ask| Ok((shared.behaviour(&ask)?, ask)));
    let mut response = match decided {
        Ok((behaviour, ask)) => {
            let admitted = Admitted { ask, behaviour, call, gate: &shared.gate, reset: line.reset };
            if let Some(shelf) = shelf {
                shelf.keep(&admitted.ask, &admitted.behaviour, || admitted.frames());
            }
            reply::answer(admitted).await
        }
        Err(refusal) => {
            call.end(Ending::Refused { status: refusal.status });
            reply::error(&refusal)
        }
    };
    let request_id =
        HeaderValue::from_str(&reply::request_id(id.number)).expect("a request id is plain text");
    response.headers_mut().insert("x-request-id", request_id);
    response
}

fn enter(shared: &Shared, line: &Line, head: Parts, (body, read): (Bytes, &Result<Ask, ApiError>)) -> CallId {
    let (at, at_ms) = shared.book.now();
    shared.book.enter(SeenCall {
        number: 0,
        at,
        at_ms,
        path: head.uri.path().to_owned(),
        http_version: head.version,
        connection: line.number,
        headers: head.headers,
        body,
        model: read.as_ref().map_or_else(|_| String::new(), |ask| ask.model.clone()),
        streamed: read.as_ref().is_ok_and(|ask| ask.stream),
        ending: Ending::Open,
        n_written: 0,
    })
}
