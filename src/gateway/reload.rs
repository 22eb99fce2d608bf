//! Follows changes from outside: the configuration file, SIGHUP, and teams and keys in the database.
//!
//! Does not change what is opened once (address, stores, models); such a change is told, and waits for a restart.
//!
//! Invariants: a reload is all or nothing; a bad file keeps the last good one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::{Gateway, Live, Members, StartError};
use crate::config::{Config, Environment};
use crate::team::Roster;
use crate::telemetry::events::ConfigReloaded;

/// Editors write a file in several steps; this is after the last of them.
const SETTLE: Duration = Duration::from_millis(200);
/// How long a team or a key that was changed elsewhere may take to count.
const ROSTER_EVERY: Duration = Duration::from_secs(2);

impl Gateway {
    /// Reads the configuration again; what is wrong with it, if anything.
    pub async fn reload(&self, env: &Environment) -> Vec<String> {
        let before = self.live();
        let problems = match self.read_again(&before, env).await {
            Ok(live) => self.put_in_force(live).await.err().into_iter().collect(),
            Err(problems) => problems,
        };
        ConfigReloaded { problems: &problems }.emit();
        problems
    }

    async fn read_again(&self, before: &Live, env: &Environment) -> Result<Live, Vec<String>> {
        let file = before.config.files.first().map(PathBuf::as_path);
        let mut config = Config::load(file, env)
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        config.listen_on(before.config.listen_given);
        warn_of_restart(&before.config, &config);
        let live = Live::build(config, &self.client).await.map_err(|problem| vec![problem])?;
        // At the start a missing model leaves the others answering; a reload must not lose one that is there.
        let lost = live.not_loaded().find(|(name, _)| before.upstreams().any(|known| known == *name));
        if let Some((name, why)) = lost {
            return Err(vec![format!("upstreams.{name}: {why}")]);
        }
        Ok(live)
    }

    /// Gives a new configuration the teams and keys of the database, as far as it can be read, and swaps it in.
    async fn put_in_force(&self, live: Live) -> Result<(), String> {
        let _turn = self.changing.lock().await;
        let roster = match self.ledger.keys().load_roster().await {
            Ok(roster) => roster,
            Err(error) => {
                tracing::warn!("teams and keys of the database stay as they were last read: {error}");
                Roster::clone(&self.live().members().roster)
            }
        };
        let members = Members::new(&live.config, roster);
        if members.ring.is_open() && !self.listen.ip().is_loopback() {
            return Err(StartError::OpenToAll(self.listen).to_string());
        }
        self.ledger.follow(&members.ring.budgets()).await.map_err(|error| error.to_string())?;
        live.set_members(members);
        self.live.store(Arc::new(live));
        Ok(())
    }
}

/// Names the sections that are read once; only what every call looks at is not among them.
fn warn_of_restart(before: &Config, after: &Config) {
    let shown = |config: &Config| {
        let mut cache = config.cache.clone();
        (cache.max_temperature, cache.personal_data) = Default::default();
        (cache.semantic.audit_usd_per_day, cache.semantic.judge_route) = Default::default();
        [format!("{:?}", config.server), format!("{:?}", config.ledger), format!("{cache:?}")]
            .into_iter()
            .chain([format!("{:?}", config.complexity), format!("{:?}", config.onnx)])
            .chain([format!("{:?}", config.shared)])
    };
    let names = ["[server]", "[ledger]", "[cache]", "[complexity]", "[onnx]", "[shared]"];
    for ((name, before), after) in names.into_iter().zip(shown(before)).zip(shown(after)) {
        if before != after {
            tracing::warn!("changes to {name} take effect at the next start");
        }
    }
}

/// Follows changes until the gateway stops. `hangups` tells of SIGHUP.
pub async fn watch(gateway: Arc<Gateway>, env: Environment, mut hangups: mpsc::Receiver<()>) {
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = watch_files(&gateway.live().config.files, changed);
    let mut roster_due = tokio::time::interval(ROSTER_EVERY);
    // Models may take minutes to load; one reload at a time, beside everything else.
    let (wanted, wishes) = mpsc::channel(1);
    gateway.tasks.spawn(reload_on(Arc::clone(&gateway), env, wishes));
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => break,
            // What went wrong is logged where it did.
            _ = roster_due.tick() => drop(gateway.refresh_roster().await),
            // A full channel has a reload waiting already.
            Some(()) = hangups.recv() => drop(wanted.try_send(())),
            Some(()) = changes.recv() => {
                tokio::time::sleep(SETTLE).await;
                while changes.try_recv().is_ok() {}
                let _ = wanted.try_send(());
            }
        }
    }
    drop(watcher);
}

async fn reload_on(gateway: Arc<Gateway>, env: Environment, mut wishes: mpsc::Receiver<()>) {
    while wishes.recv().await.is_some() {
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            _ = gateway.reload(&env) => {}
        }
    }
}

/// Watches the folders: an editor that replaces a file would escape a watch on the file itself.
fn watch_files(files: &[PathBuf], changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let mut names: Vec<_> = files.iter().filter_map(|file| file.file_name().map(ToOwned::to_owned)).collect();
    // Kubernetes swaps this link when a mounted ConfigMap changes.
    names.push("..data".into());
    let on_event = move |event: notify::Result<notify::Event>| {
        let is_ours = |event: &notify::Event| {
            !event.kind.is_access()
                && event
                    .paths
                    .iter()
                    .any(|path| path.file_name().is_some_and(|name| names.iter().any(|known| known == name)))
        };
        if event.as_ref().is_ok_and(is_ours) {
            // A full channel has a reload waiting already.
            let _ = changed.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(on_event)
        .map_err(|error| tracing::warn!("changes of the configuration are not noticed, send SIGHUP: {error}"))
        .ok()?;
    for file in files {
        let folder = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(std::path::Path::new("."));
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!(folder = %folder.display(), "is not watched, send SIGHUP instead: {error}");
        }
    }
    Some(watcher)
}
