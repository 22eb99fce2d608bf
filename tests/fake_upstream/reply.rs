//! Makes the HTTP answer to an admitted call: composes, renders, and sets the player to work.
//!
//! Knows no sockets beyond the switch that resets one.
//!
//! Invariants: a call is charged only once an answer is under way; an answer that nothing was
//! scripted for leaves in one write with a `content-length`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use serde_json::Value;

use super::answer::Answer;
use super::behaviour::{Behaviour, Fault};
use super::bill::Usage;
use super::book::{Charge, Ending};
use super::chat_wire::{self, Envelope};
use super::fault::{ApiError, WEB_PAGE, mid_stream_error};
use super::player::{CutShort, Gate, OpenCall, Part, Player};
use super::prebuilt::Ready;
use super::request::{Ask, Endpoint};
use super::socket::ResetSwitch;
use super::sse::{self, Event};
use super::{completions_wire, embedding};

/// Answers are dated by their number from here, so that no clock takes part in them.
const FIRST_CREATED_S: u64 = 1_700_000_000;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html");

/// A body in one piece, or one that is played.
pub enum Body {
    Whole(Full<Bytes>),
    Played(Box<Player>),
    Prebuilt { frames: Arc<[Bytes]>, at: usize },
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(CutShort::from),
            Self::Played(player) => Pin::new(player.as_mut()).poll_frame(cx),
            Self::Prebuilt { frames, at } => {
                let frame = frames.get(*at).cloned();
                *at += 1;
                Poll::Ready(frame.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Played(player) => player.is_end_stream(),
            Self::Prebuilt { frames, at } => *at >= frames.len(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Played(player) => player.size_hint(),
            Self::Prebuilt { .. } => SizeHint::default(),
        }
    }
}

pub fn json(status: StatusCode, body: &Value) -> Response<Body> {
    response(status, JSON, Body::Whole(Full::from(body.to_string())))
}

pub fn error(error: &ApiError) -> Response<Body> {
    json(StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &error.body())
}

fn response(status: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// Sends an answer that was rendered before.
pub fn prebuilt(ready: Ready) -> Response<Body> {
    let Ready { frames, stream } = ready;
    if let (false, [whole]) = (stream, &*frames) {
        return response(StatusCode::OK, JSON, Body::Whole(Full::new(whole.clone())));
    }
    response(StatusCode::OK, EVENT_STREAM, Body::Prebuilt { frames, at: 0 })
}

/// What `x-request-id` says, and the bill.
pub fn request_id(number: u64) -> String {
    format!("req_fake_{number}")
}

/// A call that passed the door, with all that answering it takes.
pub struct Admitted<'a> {
    pub ask: Ask,
    pub behaviour: Behaviour,
    pub call: OpenCall,
    pub gate: &'a Gate,
    pub reset: ResetSwitch,
}

/// Answers as the behaviour says, after the wait it asks for.
pub async fn answer(mut admitted: Admitted<'_>) -> Response<Body> {
    let behaviour = &admitted.behaviour;
    if behaviour.travel.headers_ms > 0 {
        tokio::time::sleep(Duration::from_millis(behaviour.travel.headers_ms)).await;
    }
    if behaviour.fault == Fault::HangBeforeHeaders {
        std::future::pending::<()>().await;
    }
    let scripted_headers = std::mem::take(&mut admitted.behaviour.headers);
    let mut response = match refusal(&admitted) {
        Some(refusal) => {
            admitted.call.end(Ending::Refused { status: refusal.status });
            error(&refusal)
        }
        None => admitted.compose(),
    };
    add_headers(response.headers_mut(), &scripted_headers);
    response
}

fn refusal(admitted: &Admitted<'_>) -> Option<ApiError> {
    let model = &admitted.ask.model;
    if let Fault::Status(status) = admitted.behaviour.fault {
        return Some(ApiError::of_status(status, admitted.behaviour.message.as_deref()));
    }
    let message = format!("The model `{model}` does not exist or you do not have access to it.");
    model.starts_with("no-such-").then(|| ApiError::of_status(404, Some(&message)))
}

fn add_headers(headers: &mut HeaderMap, scripted: &[(String, String)]) {
    for (name, value) in scripted {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
}

/// An answer rendered, before it travels.
enum Rendered {
    Whole(Value),
    Events(Vec<Event>),
}

impl Admitted<'_> {
    /// The bytes of the answer, for [`prebuilt`].
    pub fn frames(&self) -> Vec<Bytes> {
        match self.render().0 {
            Rendered::Whole(body) => vec![Bytes::from(body.to_string())],
            Rendered::Events(events) => sse::streamed(events, &self.behaviour).into_bytes(),
        }
    }

    fn compose(mut self) -> Response<Body> {
        let (rendered, usage) = self.render();
        let streams = matches!(rendered, Rendered::Events(_));
        let fault = &self.behaviour.fault;
        if *fault == Fault::Html {
            return self.uncharged(WEB_PAGE, HTML);
        }
        if *fault == Fault::Empty {
            return self.uncharged("", if streams { EVENT_STREAM } else { JSON });
        }
        if matches!(fault, Fault::ErrorAt(_)) && !streams {
            // An error in place of an answer; in a stream it comes in the middle of one.
            let body = mid_stream_error(self.behaviour.message.as_deref()).to_string();
            return self.uncharged(&body, JSON);
        }
        let (request_id, model) = (request_id(self.call.id.number), self.ask.model.clone());
        self.call.charge = Some(Charge { request_id, model, usage });
        match rendered {
            Rendered::Events(events) => {
                let part = sse::streamed(events, &self.behaviour);
                self.play(part, EVENT_STREAM)
            }
            Rendered::Whole(body) => self.whole(&body, usage),
        }
    }

    fn render(&self) -> (Rendered, Usage) {
        let (ask, behaviour, envelope) = (&self.ask, &self.behaviour, self.envelope());
        if ask.endpoint == Endpoint::Embeddings {
            let (body, usage) = embedding::answer(ask);
            return (Rendered::Whole(body), usage);
        }
        let answer = Answer::compose(ask, behaviour);
        let rendered = match (ask.endpoint == Endpoint::Chat, ask.stream) {
            (true, false) => Rendered::Whole(chat_wire::whole(ask, behaviour, &answer, &envelope)),
            (true, true) => Rendered::Events(chat_wire::events(ask, behaviour, &answer, &envelope)),
            (false, false) => Rendered::Whole(completions_wire::whole(ask, behaviour, &answer, &envelope)),
            (false, true) => Rendered::Events(completions_wire::events(ask, behaviour, &answer, &envelope)),
        };
        (rendered, answer.usage)
    }

    fn envelope(&self) -> Envelope {
        let number = self.call.id.number;
        let prefix = if self.ask.endpoint == Endpoint::Chat { "chatcmpl" } else { "cmpl" };
        let seed = self.ask.seed.map(|seed| format!("_{seed}")).unwrap_or_default();
        Envelope {
            id: format!("{prefix}-fake{number}"),
            created: FIRST_CREATED_S + number,
            fingerprint: format!("fp_fake{seed}"),
        }
    }

    fn whole(mut self, body: &Value, usage: Usage) -> Response<Body> {
        let mut text = body.to_string();
        if matches!(self.behaviour.fault, Fault::BrokenJsonAt(_)) {
            text.pop();
        } else if matches!(self.behaviour.fault, Fault::GarbageAt(_)) {
            text.insert_str(0, "\u{1}this is no answer\n");
        }
        if self.behaviour.travels_plainly() {
            self.call.n_written = usage.completion;
            self.call.end(Ending::Answered);
            return response(StatusCode::OK, JSON, Body::Whole(Full::from(text)));
        }
        let part = sse::whole(&text, usage.completion, &self.behaviour);
        self.play(part, JSON)
    }

    fn play(self, part: Part, content_type: HeaderValue) -> Response<Body> {
        let player = Player::new(part, self.call, self.gate, self.reset);
        response(StatusCode::OK, content_type, Body::Played(Box::new(player)))
    }

    /// What is no answer costs nothing.
    fn uncharged(mut self, body: &str, content_type: HeaderValue) -> Response<Body> {
        self.call.end(Ending::CutShort);
        response(StatusCode::OK, content_type, Body::Whole(Full::from(body.to_owned())))
    }
}
