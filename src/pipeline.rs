//! The life of a call, on one page.
//!
//! Stages are functions; their order is data flow: each takes the values it needs and returns one new
//! value. This file decides the order and nothing else.
//!
//! Invariants: nothing goes upstream without a `hold::Held`, which only `hold` makes from a plan and
//! an admitted caller; whatever stage ends a call, what it set aside is posted or released exactly once.

mod admit;
mod assign;
mod audit;
mod call;
mod dispatch;
mod explain;
mod feedback;
mod hold;
mod judge;
mod local;
mod lookup;
mod meter;
mod own;
mod plan;
mod replay;
mod reply;
mod score;
mod settle;
mod stream;
mod text;
mod timeline;

use std::sync::Arc;

use admit::admit;
use assign::count;
use audit::Audit;
pub use call::{Call, Options};
pub use explain::explain;
pub use feedback::{About, Rating, take_feedback};
pub use reply::{Facts, Reply, ReplyBody};

use crate::error::Result;
use crate::gateway::Gateway;
use dispatch::dispatch;
use hold::hold;
use lookup::{Lookup, lookup};
use plan::plan;
use replay::replay;
use score::score;
use settle::settle;

/// Answers one call. The stages read in the order they run.
pub async fn serve_chat(gateway: &Arc<Gateway>, call: Call) -> Result<Reply> {
    let admitted = admit(gateway, &call).await?;
    count(gateway, &admitted, &call);
    let fill = match lookup(gateway, &admitted, &call).await {
        Lookup::Hit(hit) => return replay(gateway, admitted, &call, &hit),
        Lookup::Audited(hit, fill) => {
            let audit = Audit::of(gateway, &admitted, &call, fill);
            let reply = replay(gateway, admitted, &call, &hit)?;
            gateway.audits.start(audit.run(Arc::clone(gateway)));
            return Ok(reply);
        }
        Lookup::Miss(fill) => fill,
    };
    let scored = score(gateway, &admitted, &call).await;
    let planned = plan(gateway, &admitted, &call, scored)?;
    let (planned, held) = hold(gateway, &admitted, &call, planned, fill.said()).await?;
    let answered = dispatch(gateway, &admitted, &call, &planned, held).await?;
    Ok(settle(gateway, admitted, call, fill, answered))
}

#[cfg(test)]
mod tests;
