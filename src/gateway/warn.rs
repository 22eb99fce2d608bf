//! Takes warnings of soft budgets from the ledger to the webhook of the team, or of all.
//!
//! Invariant: a webhook that hangs holds up other warnings for a while, and no call.

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::json;
use tokio::sync::mpsc;

use super::Gateway;
use crate::ledger::budget::Warning;
use crate::notice::Notices;

/// Goes on until the gateway stops.
pub(super) async fn warn(gateway: Arc<Gateway>, notices: Option<Notices>, mut news: mpsc::Receiver<Warning>) {
    loop {
        let warning = tokio::select! {
            () = gateway.stop.cancelled() => return,
            warning = news.recv() => warning,
        };
        let Some(warning) = warning else { return };
        tracing::warn!("a soft budget was passed: {warning}");
        let Some((notices, url)) = notices.as_ref().zip(webhook(&gateway, &warning)) else { continue };
        if !gateway.ledger.is_first_to_warn(&warning).await {
            continue;
        }
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            _ = notices.send(&url, body(&warning)) => {}
        }
    }
}

fn webhook(gateway: &Gateway, warning: &Warning) -> Option<SecretString> {
    let live = gateway.live();
    let of_team = live.key_ring().team(&warning.team).and_then(|team| team.webhook.clone());
    of_team.or_else(|| live.config.ledger.webhook.clone())
}

fn body(warning: &Warning) -> String {
    let Warning { team, subject, budget, balance } = warning;
    json!({
        "event": "budget_warning",
        "team": team,
        "of": subject.kind(),
        "name": subject.name(),
        "per": budget.per,
        "time_zone": budget.time_zone.name(),
        "budget_usd": budget.usd.to_string(),
        "spent_usd": balance.spent.to_string(),
        "percent": warning.percent(),
        "on_exceed": budget.on_exceed,
        "resets_at_ms": balance.resets_at_ms,
    })
    .to_string()
}
