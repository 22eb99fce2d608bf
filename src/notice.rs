//! Tells an operator's webhook what happened: a JSON object, sent in the background.
//!
//! Decides nothing and delays no call. Follows no redirect, and never logs an address, which may hold a secret.
//!
//! Invariants: a notice is tried a few times, each within the timeout, and then given up, counted and logged.

use std::time::Duration;

use metrics::counter;
use secrecy::{ExposeSecret, SecretString};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Between tries, the longer the later.
const WAITS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(3)];

/// Why notices cannot be sent at all.
#[derive(Debug, thiserror::Error)]
#[error("webhooks cannot be called: {0}; check that the system's CA certificates are installed")]
pub struct NoticeError(String);

/// Sends notices. A clone uses the same connections.
#[derive(Debug, Clone)]
pub struct Notices {
    http: reqwest::Client,
}

impl Notices {
    pub fn open() -> Result<Self, NoticeError> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| NoticeError(error.to_string()))?;
        Ok(Self { http })
    }

    /// Posts `body`; returns whether somebody took it.
    pub async fn send(&self, url: &SecretString, body: String) -> bool {
        let mut waits = WAITS.iter();
        loop {
            let Err(problem) = self.try_to_send(url, body.clone()).await else {
                counter!("stiver_notices_total", "outcome" => "sent").increment(1);
                return true;
            };
            let Some(wait) = waits.next() else {
                counter!("stiver_notices_total", "outcome" => "failed").increment(1);
                tracing::warn!("a webhook did not take a notice: {problem}");
                return false;
            };
            tokio::time::sleep(*wait).await;
        }
    }

    async fn try_to_send(&self, url: &SecretString, body: String) -> Result<(), String> {
        let request = self.http.post(url.expose_secret()).header("content-type", "application/json");
        let sent = request.body(body).send().await.map_err(|error| error.without_url().to_string())?;
        let status = sent.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }
}
