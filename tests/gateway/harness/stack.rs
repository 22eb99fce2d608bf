//! The services that gateways of these tests use where the environment names them: `tests/stack.sh` does.
//!
//! Starts none of them.
//!
//! Invariants: every folder has a database, a Redis keyspace and a Qdrant collection of its own, so that
//! tests see nothing of each other; without the environment a gateway is the embedded default.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Where the services of one folder are.
#[derive(Debug, Clone, Default)]
pub struct Stack {
    /// The server's address without a database, and the name of the folder's.
    postgres: Option<(String, String)>,
    /// Exact answers, and budgets and limits.
    pub redis_urls: Option<[String; 2]>,
    pub qdrant: Option<(String, String)>,
}

impl Stack {
    pub fn of(folder: &Path) -> Self {
        let number = number_of(folder);
        let name = format!("test_{number}");
        Self {
            postgres: from("STIVER_TEST_POSTGRES").map(|url| (url, name.clone())),
            redis_urls: from("STIVER_TEST_REDIS")
                .map(|url| [format!("{url}/{}", 2 * number), format!("{url}/{}", 2 * number + 1)]),
            qdrant: from("STIVER_TEST_QDRANT").map(|url| (url, name)),
        }
    }

    pub fn ledger_url(&self) -> Option<String> {
        self.postgres.as_ref().map(|(server, name)| format!("{server}/{name}"))
    }

    /// Makes the folder's database, unless an earlier gateway did.
    pub async fn prepare(&self) {
        let Some((server, name)) = &self.postgres else { return };
        let url = format!("{server}/postgres");
        let mut connection = PgConnection::connect(&url).await.expect("Postgres is where it is said to be");
        let sql = format!("CREATE DATABASE {name}");
        let made = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await;
        let is_there = made.as_ref().err().is_none_or(|error| error.to_string().contains("already exists"));
        assert!(is_there, "{made:?}");
    }
}

/// Whether gateways use no services here.
pub fn is_embedded() -> bool {
    from("STIVER_TEST_POSTGRES").is_none()
}

#[expect(
    clippy::disallowed_methods,
    reason = "where a test's services are is no configuration of the gateway"
)]
fn from(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|url| !url.is_empty())
}

/// Whether the book is a SQLite file, which a test may lock or break; if not, says why it is skipped.
pub fn has_sqlite() -> bool {
    if !is_embedded() {
        eprintln!("skipped: the book is not a SQLite file here");
    }
    is_embedded()
}

fn number_of(folder: &Path) -> usize {
    static FOLDERS: OnceLock<Mutex<HashMap<PathBuf, usize>>> = OnceLock::new();
    let mut folders = FOLDERS.get_or_init(Mutex::default).lock().expect("nobody panics while holding it");
    let next = folders.len() + 1;
    *folders.entry(folder.to_owned()).or_insert(next)
}
