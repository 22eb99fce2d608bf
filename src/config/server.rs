//! The `[server]` section: where we listen, and what a client may do to us.
//!
//! Stands here and not in `server` because the composition root reads it, and `server` is above it.

use std::net::SocketAddr;

use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port. Default: `127.0.0.1:8080`. Another address than loopback needs keys.
    pub listen: SocketAddr,
    /// The largest request body, in bytes. Default: 8 MiB.
    pub max_body_bytes: usize,
    /// The largest request head, in bytes. Default: 64 KiB.
    pub max_head_bytes: usize,
    /// How long a client may take to send a request's head, and a connection may stay idle, in ms. Default: 30000.
    pub head_timeout_ms: u64,
    /// How long a client may take to send a request's body, in ms. Default: 30000.
    pub body_timeout_ms: u64,
    /// How long a client may leave an answer unread, in ms. Default: 60000.
    pub write_timeout_ms: u64,
    /// How long open calls may go on after SIGTERM, in ms. Default: 30000.
    pub drain_timeout_ms: u64,
    pub flood: FloodConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            max_body_bytes: 8 << 20,
            max_head_bytes: 64 << 10,
            head_timeout_ms: 30_000,
            body_timeout_ms: 30_000,
            write_timeout_ms: 60_000,
            drain_timeout_ms: 30_000,
            flood: FloodConfig::default(),
        }
    }
}

/// The guard against one address flooding the edge; limits by team are `[teams.NAME.limits]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FloodConfig {
    /// Requests a second one address may keep up; 0 switches the guard off. Default: 500.
    pub per_second: u32,
    /// Requests one address may send at once before it is slowed down. Default: 2000.
    pub burst: u32,
}

impl Default for FloodConfig {
    fn default() -> Self {
        Self { per_second: 500, burst: 2_000 }
    }
}
