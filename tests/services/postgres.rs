//! A Postgres of one's own for tests, on a free port of this machine, and in it a database for each test.
//!
//! Needs Debian's `postgresql`; without it a test is told so and skips. What is written survives `stop`, and
//! is not forced to disk: a test stops servers, not machines.

use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const STARTS_WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct PostgresServer {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    /// The server refuses to run as root.
    owner: Option<(u32, u32)>,
}

impl PostgresServer {
    /// A running server, or nothing and a printed reason.
    #[expect(clippy::print_stderr, reason = "a skipped test has to say so")]
    pub(crate) async fn start() -> Option<Self> {
        match Self::launch().await {
            Ok(server) => Some(server),
            Err(error) => {
                eprintln!("skipped: no Postgres: {error}");
                None
            }
        }
    }

    async fn launch() -> std::io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let owner = owner()?;
        if let Some((uid, gid)) = owner {
            chown(dir.path(), Some(uid), Some(gid))?;
        }
        let data = dir.path().join("data");
        let mut init = program("initdb", owner)?;
        init.args(["--auth=trust", "--username=stiver", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"]);
        let made = init.arg(&data).current_dir(dir.path()).output()?;
        if !made.status.success() {
            return Err(Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
        }
        let port = free_port();
        let child = serve(dir.path(), port, owner)?;
        let server = Self { child, port, dir, owner };
        server.wait_until_up().await?;
        Ok(server)
    }

    /// Polls, because the server tells nobody when it listens.
    async fn wait_until_up(&self) -> std::io::Result<()> {
        let start = Instant::now();
        loop {
            match PgConnection::connect(&self.url("postgres")).await {
                Ok(connection) => return connection.close().await.map_err(Error::other),
                Err(error) if start.elapsed() > STARTS_WITHIN => return Err(Error::other(error)),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The address of a new, empty database.
    pub(crate) async fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = self.connect("postgres").await;
        let sql = format!("CREATE DATABASE {name}");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("a database can be made");
        self.url(&name)
    }

    async fn connect(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.url(database)).await.expect("the server listens")
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://stiver:secret@127.0.0.1:{}/{database}", self.port)
    }

    /// Ends it: by `KILL` as a crash would, by `INT` as an operator does who waits for nobody. What was committed
    /// is there when it starts again.
    pub(crate) fn stop(&mut self, by: Signal) {
        // Its own children end when they miss it, and an error means that it is gone already.
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()).filter(|_| self.is_running()) {
            let _ = kill_process(pid, by);
        }
        drop(self.child.wait());
    }

    /// A number that was waited for may be another process's by now.
    fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    pub(crate) async fn start_again(&mut self) {
        self.stop(Signal::KILL);
        let _ = std::fs::remove_file(self.dir.path().join("data/postmaster.pid"));
        let start = Instant::now();
        // The children of the one before may hold its memory a moment longer.
        loop {
            self.child = serve(self.dir.path(), self.port, self.owner).expect("it started before");
            tokio::time::sleep(Duration::from_millis(200)).await;
            if self.is_running() {
                break;
            }
            assert!(start.elapsed() < STARTS_WITHIN, "Postgres does not start again");
        }
        self.wait_until_up().await.expect("it started before");
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop(Signal::KILL);
    }
}

fn serve(dir: &Path, port: u16, owner: Option<(u32, u32)>) -> std::io::Result<Child> {
    let mut command = program("postgres", owner)?;
    command.arg("-D").arg(dir.join("data")).args(["-p", &port.to_string()]);
    for setting in ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=200", "logging_collector=off"]
    {
        command.args(["-c", setting]);
    }
    command.arg("-c").arg(format!("unix_socket_directories={}", dir.display()));
    command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn program(name: &str, owner: Option<(u32, u32)>) -> std::io::Result<Command> {
    let mut command = Command::new(find(name)?);
    if let Some((uid, gid)) = owner {
        command.gid(gid).uid(uid);
    }
    Ok(command)
}

/// Debian keeps the server's programs beside the path, in a folder a version.
fn find(name: &str) -> std::io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut beside: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    beside.sort();
    let mut folders = beside.into_iter().rev().chain(std::env::split_paths(&path));
    let found = folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()));
    found.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no program `{name}`; install postgresql"))
    })
}

/// Who runs the server: the user `postgres` where this is root, else whoever runs the tests.
fn owner() -> std::io::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.first() == Some(&"postgres"));
    let ids = found.and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)));
    ids.map(Some)
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no user `postgres`; install postgresql"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the machine has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
