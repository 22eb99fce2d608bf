//! `stiver explain`: where a request would go, why, and what it could cost.
//!
//! Opens an empty book of its own in a temporary folder, so that it can run beside a gateway; of the
//! gateway's it reads teams and keys.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::Done;
use crate::chat::{Endpoint, Request};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::gateway::{Gateway, Members};
use crate::ledger::keys::Keys;
use crate::pipeline::{Call, Options, explain};
use crate::team::{CallId, Roster};

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A chat completion request, as JSON
    #[arg(value_name = "REQUEST.json")]
    request: PathBuf,
    /// The key to ask with, where keys are configured
    #[arg(long, env = "STIVER_KEY", hide_env_values = true)]
    key: Option<String>,
    /// A header to ask with, such as `x-stiver-user: ada`; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = read_header)]
    headers: Vec<(String, String)>,
}

impl Explain {
    pub(super) async fn run(self, mut config: Config, env: &Environment) -> Done {
        let shown = self.request.display();
        let body =
            std::fs::read(&self.request).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let request = Request::parse(Endpoint::Chat, &body).map_err(|error| format!("{shown}: {error}"))?;
        let options = options(self.key, &self.headers, &config)?;
        let roster = stored_roster(&config).await?;
        // Nothing listens here, so an address that needs keys is no hindrance.
        config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let folder = std::env::temp_dir().join(format!("stiver-explain-{}", std::process::id()));
        config.ledger.url = None;
        config.ledger.path = folder.join("ledger.sqlite");
        config.ledger.journal_dir = folder.join("journal");
        config.cache.exact.enabled = false;
        config.cache.semantic.enabled = false;
        let gateway = Gateway::open(config, env, Clock::system()).await.map_err(|error| error.to_string())?;
        let live = gateway.live();
        live.set_members(Members::new(&live.config, roster));
        let ts_ms = gateway.clock.now_ms();
        let id = CallId::new(ts_ms, rand::random());
        let call = Call::new(id, Instant::now(), ts_ms, request, options);
        let decision = explain(&gateway, &call).await;
        let closed = gateway.close().await;
        // What is left in a temporary folder is the system's to clear.
        let _ = std::fs::remove_dir_all(&folder);
        closed.map_err(|error| error.to_string())?;
        println!("{:#}", decision.map_err(|error| error.to_string())?);
        Ok(())
    }
}

fn read_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it like `x-stiver-user: ada`")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// The wishes of a call with these headers; a key given by itself comes before one among them.
fn options(key: Option<String>, headers: &[(String, String)], config: &Config) -> Result<Options, String> {
    let get = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let mut options =
        Options::read(get).map_err(|error| error.to_string())?.keep(config.splits.headers(), get);
    options.key = key.map(secrecy::SecretString::from).or(options.key);
    Ok(options)
}

/// The teams and keys that a gateway with this configuration would know from its database, where there is one.
async fn stored_roster(config: &Config) -> Result<Roster, String> {
    if config.ledger.url.is_none() && !config.ledger.path.exists() {
        return Ok(Roster::default());
    }
    let keys = Keys::open(&config.ledger).await.map_err(|error| error.to_string())?;
    keys.load_roster().await.map_err(|error| error.to_string())
}
