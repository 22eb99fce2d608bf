//! The official OpenAI SDKs see the same through the gateway as without it.
//!
//! The cases stand in `tests/clients`; here the servers they need are started. Skipped, with the reason
//! printed, where Python, Node or the built example is missing.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{Home, UPSTREAM_KEY, within};

/// The first run installs the SDKs.
const INSTALL_AND_RUN: Duration = Duration::from_secs(600);

fn target() -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_stiver")).parent().expect("the binary stands in a folder");
    profile.parent().expect("the profile stands in a folder").to_owned()
}

fn fake_upstream() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_stiver")).with_file_name("examples").join("fake-upstream")
}

/// What is missing, if anything.
async fn missing() -> Option<String> {
    if !fake_upstream().exists() {
        return Some("the fake upstream; `cargo build --example fake-upstream` builds it".to_owned());
    }
    for program in ["python3", "node", "npm"] {
        let version = Command::new(program).arg("--version").stdout(Stdio::null()).status().await;
        if !version.is_ok_and(|status| status.success()) {
            return Some(program.to_owned());
        }
    }
    None
}

/// The fake upstream in a process of its own, and its base URL.
async fn start_fake() -> (Child, String) {
    let mut command = Command::new(fake_upstream());
    command.args(["--port", "0"]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("it is built");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let line = within("the fake upstream starts", lines.next_line()).await.expect("it prints UTF-8");
    (child, line.expect("the first line is the base URL"))
}

#[tokio::test]
async fn both_sdks_see_the_same_through_the_gateway() {
    if let Some(what) = missing().await {
        eprintln!("skipped: there is no {what}");
        return;
    }
    let (_fake, direct) = start_fake().await;
    let home = Home::new(include_str!("../../config/stiver.toml"))
        .with("OPENAI_API_KEY", UPSTREAM_KEY)
        .with("OPENAI_BASE_URL", &direct);
    let key = home.create_key(&[]).await;
    let gateway = home.start().await;

    let mut suites = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/run.sh"));
    suites.args([&direct, &gateway.url("/v1"), &key]).env("CARGO_TARGET_DIR", target()).kill_on_drop(true);
    let output = tokio::time::timeout(INSTALL_AND_RUN, suites.output()).await;
    let output = output.expect("the suites end").expect("the script can be run");

    let said = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = said.lines().filter(|line| !line.starts_with("ok ")).collect();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{complaints}\n{}", failed.join("\n"), gateway.stderr.text());
    assert_eq!(said.lines().filter(|line| line.ends_with(" passed, 0 failed")).count(), 2, "{said}");
    assert!(said.lines().filter(|line| line.starts_with("ok    gateway")).count() > 50, "{said}");
    drop(gateway);
    ask_the_embedded_default().await;
}

/// Follows the suites in one test, because they install the SDK.
async fn ask_the_embedded_default() {
    let home = Home::empty();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("router-models");
    std::os::unix::fs::symlink(models, home.path().join("router-models")).expect("the folder is empty");
    let gateway = home.start().await;

    let mut suite = Command::new(target().join("clients/venv/bin/python"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python/local.py");
    suite.arg("-B").arg(script).arg(gateway.url("/v1")).kill_on_drop(true);
    let output = tokio::time::timeout(INSTALL_AND_RUN, suite.output()).await;
    let output = output.expect("the suite ends").expect("the SDK is installed");

    let (said, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complaints}\n{}", gateway.stderr.text());
    assert!(said.trim_end().ends_with(" passed, 0 failed"), "{said}");
}
