//! The stages of a call that the gateway makes on its own account: those of a client's, but for the two that it must not
//! have. It is not admitted again, and looks nothing up.
//!
//! Invariant: while whoever keeps the money is away, audits pause.

use std::sync::Arc;

use super::admit::Admitted;
use super::call::Call;
use super::dispatch::dispatch;
use super::hold::hold;
use super::lookup::Filling;
use super::plan::plan;
use super::reply::Reply;
use super::score::score;
use super::settle::settle;
use crate::error::{Blame, Error, Result};
use crate::gateway::Gateway;

pub(super) async fn ask_upstream(
    gateway: &Arc<Gateway>,
    admitted: Admitted,
    call: Call,
    filling: Filling,
) -> Result<Reply> {
    let scored = score(gateway, &admitted, &call).await;
    let planned = plan(gateway, &admitted, &call, scored)?;
    let held = hold(gateway, &admitted, &call, planned, filling.said()).await;
    let (planned, held) = held.inspect_err(|refused| pause_audits(gateway, refused))?;
    let answered = dispatch(gateway, &admitted, &call, &planned, held).await?;
    Ok(settle(gateway, admitted, call, filling, answered))
}

/// A budget that is spent is no reason: audits ask for it before they are promised.
fn pause_audits(gateway: &Gateway, refused: &Error) {
    if refused.blame != Blame::Policy {
        gateway.audits.pause(gateway.clock.now_ms());
    }
}
