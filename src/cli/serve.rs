//! `stiver serve`: builds the gateway, listens, and shuts down in order.
//!
//! Invariants: the book is closed after the last call has ended; a second signal ends at once.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Done;
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::gateway::{Gateway, upkeep, watch};
use crate::server;

pub(super) async fn run(config: Config, env: Environment) -> Done {
    let mut signals = Signals::listen();
    let (server_config, origin) = (config.server.clone(), config.origin.clone());
    let listener = TcpListener::bind(server_config.listen).await.map_err(|error| {
        format!("cannot listen on {}: {error}; choose another with --listen", server_config.listen)
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let gateway = tokio::select! {
        opened = Gateway::open(config, &env, Clock::system()) => opened.map_err(|error| error.to_string())?,
        () = either(&mut signals.terminate, &mut signals.interrupt) => leave_early(),
    };
    greet(&gateway, address, &origin).await;
    let stop = CancellationToken::new();
    let (hangup, hangups) = mpsc::channel(1);
    gateway.tasks.spawn(signals.heed(stop.clone(), gateway.stop.clone(), hangup));
    gateway.tasks.spawn(upkeep(Arc::clone(&gateway)));
    gateway.tasks.spawn(watch(Arc::clone(&gateway), env, hangups));
    let app = server::routes(Arc::clone(&gateway), &server_config);
    server::serve(listener, app, &server_config, stop).await;
    gateway.close().await.map_err(|error| error.to_string())
}

/// A model may take minutes to load, on a thread that nobody can stop. What was opened is left as a crash
/// would leave it.
fn leave_early() -> ! {
    tracing::info!("stopped before it listened");
    std::process::exit(0)
}

async fn greet(gateway: &Gateway, address: SocketAddr, origin: &str) {
    let live = gateway.live();
    println!("stiver listens on http://{address}   (configuration: {origin})");
    println!("dashboard         http://{address}/dashboard");
    if live.key_ring().is_open() {
        println!(
            "keys              any key is taken, from this machine only; `stiver keys create` closes the door"
        );
    }
    for part in gateway.readiness().await.into_iter().filter(|part| !part.ready) {
        println!("not ready         {}: {}", part.name, part.problem.unwrap_or_default());
    }
    let url = format!("http://{address}/v1");
    println!("\ntry it:\n");
    let has_remote = live.upstreams().any(|name| !live.upstream(name).is_local());
    if live.upstreams().next().is_some() {
        let question =
            if has_remote { "What is the capital of France?" } else { "How long does delivery take?" };
        println!(
            "  curl -i {url}/chat/completions -H 'content-type: application/json' \\\n    \
             -d '{{\"model\":\"auto\",\"messages\":[{{\"role\":\"user\",\"content\":\"{question}\"}}]}}'\n"
        );
        if !has_remote {
            println!(
                "the support assistant that ships answers; set OPENAI_API_KEY for all other questions\n"
            );
        }
    } else {
        println!(
            "  curl -i {url}/embeddings -H 'content-type: application/json' \\\n    \
             -d '{{\"model\":\"all-MiniLM-L6-v2\",\"input\":\"a first text\"}}'\n\n\
             and set OPENAI_API_KEY (and OPENAI_BASE_URL for another server) for {url}/chat/completions\n"
        );
    }
}

/// Listened to from the very start, so that none ends the process in the middle of it.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Self {
        let listen = |kind| signal(kind).expect("the process may listen for its own signals");
        Self {
            terminate: listen(SignalKind::terminate()),
            interrupt: listen(SignalKind::interrupt()),
            hangup: listen(SignalKind::hangup()),
        }
    }

    /// SIGTERM and SIGINT end the server in order, a second one at once; SIGHUP reads the configuration again.
    async fn heed(mut self, stop: CancellationToken, ended: CancellationToken, hangup: mpsc::Sender<()>) {
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                _ = self.hangup.recv() => {
                    // A full channel has a reload waiting already.
                    let _ = hangup.try_send(());
                    continue;
                }
                () = either(&mut self.terminate, &mut self.interrupt) => {}
            }
            if stop.is_cancelled() {
                tracing::warn!("a second signal: open calls are cut off");
                std::process::exit(1);
            }
            tracing::info!("stopping: no new call is accepted, open ones go on");
            stop.cancel();
        }
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
