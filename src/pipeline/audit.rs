//! The check of a cached answer: the same question goes upstream once more, in the background, and the fresh answer
//! is handed to the cache, which compares the two.
//!
//! A call of its own through the same stages, but for those it must not have: it is not admitted again, looks nothing
//! up and takes nothing of the team's limits or budgets. Compares nothing itself.
//!
//! Invariants: whoever got the cached answer waits for nothing here; an audit that comes to nothing tells the cache
//! nothing; each is counted once, however it ends.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;

use super::admit::Admitted;
use super::call::Call;
use super::lookup::Filling;
use super::own::ask_upstream;
use super::reply::{Reply, ReplyBody};
use super::stream::DONE;
use crate::cache::Fill;
use crate::error::Result;
use crate::gateway::Gateway;
use crate::team::CallId;
use crate::telemetry::events::AuditEnded;

/// A check that is about to be made.
pub(super) struct Audit {
    admitted: Admitted,
    call: Call,
    fill: Fill,
}

impl Audit {
    /// Of the answer that `call` was given; the fresh one goes into `fill`.
    pub(super) fn of(gateway: &Gateway, admitted: &Admitted, call: &Call, fill: Fill) -> Self {
        let ts_ms = gateway.clock.now_ms();
        let id = CallId::new(ts_ms, rand::random());
        let call = call.again(id, Instant::now(), ts_ms);
        Self { admitted: admitted.for_own_call(gateway), call, fill }
    }

    pub(super) async fn run(self, gateway: Arc<Gateway>) {
        let Self { admitted, call, fill } = self;
        let (id, route) = (call.id, call.request.route.clone());
        let stopped = gateway.stop.clone();
        let outcome = tokio::select! {
            asked = ask(&gateway, admitted, call, fill) => asked,
            () = stopped.cancelled() => Ok("stopped"),
        };
        let (outcome, why) = match &outcome {
            Ok(outcome) => (*outcome, ""),
            Err(error) => ("failed", &*error.message),
        };
        AuditEnded { id: &id.to_string(), route: route.as_str(), outcome, why }.emit();
    }
}

/// Tells whether the answer came whole.
async fn ask(gateway: &Arc<Gateway>, admitted: Admitted, call: Call, fill: Fill) -> Result<&'static str> {
    // What it is charged outlives a crash; a database that is away stops no audit.
    gateway.save_risk().await;
    let reply = ask_upstream(gateway, admitted, call, Filling::Audit(fill)).await?;
    Ok(if read_to_end(reply).await { "answered" } else { "broken" })
}

/// Posting an answer and handing it to the cache are done on its way to whoever reads it.
async fn read_to_end(reply: Reply) -> bool {
    match reply.body {
        ReplyBody::Whole(_) => true,
        ReplyBody::Stream(mut events) => {
            let mut is_done = false;
            while let Some(event) = events.next().await {
                is_done = event == DONE;
            }
            is_done
        }
    }
}
