//! A Redis of one's own for a test, on a free port of this machine.
//!
//! Needs Debian's `redis-server`; without it a test is told so and skips.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STARTS_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl RedisServer {
    /// A running server, or nothing and a printed reason.
    #[expect(clippy::print_stderr, reason = "a skipped test has to say so")]
    pub(crate) fn start() -> Option<Self> {
        match Self::launch(free_port()) {
            Ok(server) => Some(server),
            Err(error) => {
                eprintln!("skipped: no redis-server: {error}");
                None
            }
        }
    }

    fn launch(port: u16) -> std::io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { child, port, _dir: dir };
        server.wait_until_up()?;
        Ok(server)
    }

    /// Polls, because the server tells nobody when it listens.
    fn wait_until_up(&self) -> std::io::Result<()> {
        let start = Instant::now();
        loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() > STARTS_WITHIN => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        // An error means that it is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it again, empty, on the same port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        *self = Self::launch(self.port).expect("it started before");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the machine has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
