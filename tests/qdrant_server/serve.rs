//! Serves the small Qdrant of the tests by hand: `cargo run --example qdrant-server`.
//!
//! Invariants: the only line of output is its address, so that a script can wait for it.

use std::io::Write;

#[expect(dead_code, reason = "tests look at what it keeps and end it; this does neither")]
#[path = "server.rs"]
mod server;

fn main() -> std::io::Result<()> {
    let server = server::InProcessQdrant::start();
    writeln!(std::io::stdout(), "{}", server.url())?;
    // Until it is killed.
    loop {
        std::thread::park();
    }
}
