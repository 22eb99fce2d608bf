//! The real program as a process of its own, for tests that have to take its disk or its life.
//!
//! Invariants: the process does not outlive its [`Process`].

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::answer::{Answer, OpenAnswer};
use super::setup::Setup;
use super::{plain_client, send};

pub struct Process {
    child: Child,
    url: String,
    client: reqwest::Client,
}

impl Process {
    /// Starts `stiver serve` on a free port. With `max_file_bytes` no file may grow beyond it: a write
    /// fails as it does on a full disk.
    pub async fn start(setup: &Setup, max_file_bytes: Option<u64>) -> Self {
        let limit = max_file_bytes
            .map_or(String::new(), |bytes| format!("trap '' XFSZ; ulimit -f {}; ", bytes / 512));
        let script = limit + "exec \"$0\" serve --config \"$1\" --listen 127.0.0.1:0";
        setup.stack().prepare().await;
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_stiver")).arg(setup.write_files());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program can be started");
        let output = child.stdout.take().expect("its output is piped");
        let mut lines = BufReader::new(output).lines();
        let first = lines.next_line().await.expect("its output is text").expect("it says where it listens");
        let url = first.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.unwrap_or_else(|| panic!("no address in `{first}`")).to_owned();
        // Whoever comes first in this process installs it; a second one finds it done.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { child, url, client: plain_client() }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let url = format!("{}{path}", self.url);
        Answer::read(send(&self.client, &url, body.to_string(), &[]).await).await
    }

    pub async fn open(&self, path: &str, body: &Value) -> OpenAnswer {
        let url = format!("{}{path}", self.url);
        OpenAnswer::new(send(&self.client, &url, body.to_string(), &[]).await)
    }

    /// Ends it with SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the process is ours");
    }
}
