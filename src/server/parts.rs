//! How the gateway's parts stand, as the dashboard's health page and `/admin/v1/health` tell it.
//!
//! Checks nothing itself; the gateway does.

use crate::gateway::{Gateway, Live};

/// What may be expected of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpstreamState {
    /// Calls go to it.
    Closed,
    /// It failed repeatedly and is left alone for a moment.
    Open,
    /// A local model that could not be loaded.
    NotLoaded,
    /// Its key is not set.
    Off,
    /// Only the book still knows it.
    NotConfigured,
}

impl UpstreamState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "breaker closed",
            Self::Open => "breaker open",
            Self::NotLoaded => "not loaded",
            Self::Off => "off",
            Self::NotConfigured => "not configured",
        }
    }
}

pub(super) fn upstream_state(gateway: &Gateway, live: &Live, name: &str) -> UpstreamState {
    if gateway.tripped(live).iter().any(|one| one.as_str() == name) {
        UpstreamState::Open
    } else if live.not_loaded().any(|(one, _)| one.as_str() == name) {
        UpstreamState::NotLoaded
    } else if live.upstreams().any(|one| one.as_str() == name) {
        UpstreamState::Closed
    } else if live.config.upstreams.keys().any(|one| one.as_str() == name) {
        UpstreamState::Off
    } else {
        UpstreamState::NotConfigured
    }
}
