//! The guard at the edge: how fast one address may send requests, whoever it is.
//!
//! Does not know keys or teams; their limits are admission's. Behind a proxy every request has the
//! proxy's address, so the guard belongs there and is switched off here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use governor::middleware::NoOpMiddleware;
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

use super::respond::error_response;
use crate::config::FloodConfig;
use crate::error::{Blame, Error};
use crate::telemetry::events::CallRefused;

/// The address a connection came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PeerAddress;

impl KeyExtractor for PeerAddress {
    type Key = IpAddr;

    fn extract<T>(&self, request: &http::Request<T>) -> Result<IpAddr, GovernorError> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        peer.map(|peer| peer.0.ip()).ok_or(GovernorError::UnableToExtractKey)
    }
}

/// The layer, or `None` when the guard is off.
pub(super) fn guard(config: &FloodConfig) -> Option<GovernorLayer<PeerAddress, NoOpMiddleware, Body>> {
    let between = Duration::from_secs(1).checked_div(config.per_second)?;
    let rules = GovernorConfigBuilder::default()
        .period(between)
        .burst_size(config.burst.max(1))
        .key_extractor(PeerAddress)
        .finish()?;
    Some(GovernorLayer::new(Arc::new(rules)).error_handler(refuse))
}

fn refuse(error: GovernorError) -> Response {
    let refusal = match error {
        GovernorError::TooManyRequests { .. } => {
            let message = "too many requests from this address; slow down";
            let mut error =
                Error::new(Blame::Policy, 429, "rate_limit_error", message).with_code("address_rate_limit");
            // The guard counts whole seconds only and would say 0.
            error.retry_after_ms = Some(1_000);
            error
        }
        GovernorError::UnableToExtractKey | GovernorError::Other { .. } => {
            Error::internal("the address of the connection is not known")
        }
    };
    CallRefused {
        blame: refusal.blame.as_str(),
        code: refusal.code.unwrap_or("none"),
        status: refusal.status,
        param: refusal.param.as_deref(),
        message: &refusal.message,
    }
    .emit();
    error_response(&refusal)
}
