//! `stiver explain`: where a request would go, why, and what it could cost.
//!
//! Opens an empty book of its own in a temporary folder, so that it can run beside a gateway.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::Done;
use crate::chat::{Endpoint, Request};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::gateway::Gateway;
use crate::pipeline::{Call, Options, explain};
use crate::team::CallId;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A chat completion request, as JSON
    #[arg(value_name = "REQUEST.json")]
    request: PathBuf,
    /// The key to ask with, where keys are configured
    #[arg(long, env = "STIVER_KEY", hide_env_values = true)]
    key: Option<String>,
}

impl Explain {
    pub(super) async fn run(self, mut config: Config, env: &Environment) -> Done {
        let shown = self.request.display();
        let body =
            std::fs::read(&self.request).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let request = Request::parse(Endpoint::Chat, &body).map_err(|error| format!("{shown}: {error}"))?;
        let folder = std::env::temp_dir().join(format!("stiver-explain-{}", std::process::id()));
        config.ledger.path = folder.join("ledger.sqlite");
        config.ledger.journal_dir = folder.join("journal");
        config.cache.exact.enabled = false;
        config.cache.semantic.enabled = false;
        let gateway = Gateway::open(config, env, Clock::system()).await.map_err(|error| error.to_string())?;
        let ts_ms = gateway.clock.now_ms();
        let options = Options { key: self.key.map(secrecy::SecretString::from), ..Options::default() };
        let id = CallId::new(ts_ms, rand::random());
        let call = Call { id, began: Instant::now(), ts_ms, request, options };
        let decision = explain(&gateway, &call).await;
        let closed = gateway.close().await;
        // What is left in a temporary folder is the system's to clear.
        let _ = std::fs::remove_dir_all(&folder);
        closed.map_err(|error| error.to_string())?;
        println!("{:#}", decision.map_err(|error| error.to_string())?);
        Ok(())
    }
}
