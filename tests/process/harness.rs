//! Starts the built binary in a folder of its own, talks to it, and reads the book it leaves.
//!
//! Knows no test.
//!
//! Invariants: nothing waits for longer than [`PATIENCE`]; a gateway dies with its [`Gateway`]; its
//! environment is empty but for what a test gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::fake_upstream::{FakeUpstream, SeenCall};

/// Far more than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What the gateway sends upstream as its key; it must never be seen elsewhere.
pub const UPSTREAM_KEY: &str = "sk-upstream-5ecret";
pub const MODEL: &str = "gpt-4o-mini";

/// Waits, but not for ever.
pub async fn within<T>(what: &str, wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// How much of something the environment asks for: a test that is long or wide is short and narrow by default.
#[expect(clippy::disallowed_methods, reason = "how long a test runs is no configuration of the gateway")]
pub fn asked_for(name: &str) -> Option<usize> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

/// One route to one upstream, which is the fake and whose breaker stays closed; `more` is appended.
pub fn config(fake: &FakeUpstream, more: &str) -> String {
    let base_url = fake.base_url();
    format!(
        "[upstreams.fake]\ndialect = \"openai\"\nbase_url = \"{base_url}\"\napi_key = \"{UPSTREAM_KEY}\"\n\
         model = \"{MODEL}\"\nbreaker = {{ failures = 1_000_000, open_ms = 1 }}\n[routes.{MODEL}]\nupstreams = [\"fake\"]\n[cache.exact]\nenabled = false\n\
         [cache.semantic]\nenabled = false\n{more}"
    )
}

/// A folder with a configuration, in which gateways are started one after the other.
pub struct Home {
    folder: TempDir,
    environment: BTreeMap<&'static str, String>,
    /// Where the book is, if not in the folder.
    postgres: Option<String>,
}

/// What a command that ended has said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    /// An empty folder.
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self { folder, environment: BTreeMap::new(), postgres: None }
    }

    /// A folder whose `config/stiver.toml` is `config`.
    pub fn new(config: &str) -> Self {
        let home = Self::empty();
        std::fs::create_dir(home.path().join("config")).expect("the folder is ours");
        home.write("config/stiver.toml", config);
        home.write("config/prices.toml", include_str!("../../config/prices.toml"));
        home
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.insert(name, value.into());
        self
    }

    /// Keeps the book in the Postgres database at `url`, which the configuration must name.
    pub fn in_postgres(self, url: &str) -> Self {
        Self { postgres: Some(url.to_owned()), ..self }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("the folder is ours");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stiver"));
        command.args(arguments).current_dir(self.path()).env_clear().envs(&self.environment);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Said {
        let output = within("the command ends", self.command(arguments).output()).await;
        let output = output.expect("the binary is built with the tests");
        let text = |bytes| String::from_utf8(bytes).expect("commands print UTF-8");
        Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// A key of team `tests`, made by the command line.
    pub async fn create_key(&self, more: &[&str]) -> String {
        let said = self.run(&[&["keys", "create", "--team", "tests"], more].concat()).await;
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        said.stdout.trim().to_owned()
    }

    pub async fn start(&self) -> Gateway {
        self.start_with(&[]).await
    }

    /// Starts a gateway on a free port, with more arguments, and waits until it listens.
    pub async fn start_with(&self, arguments: &[&str]) -> Gateway {
        let anywhere: &[&str] =
            if arguments.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let (child, stdout, stderr) = self.spawn(&[anywhere, arguments].concat());
        let greeting = stdout.until("stiver listens on http://").await;
        let Some((_, after)) = greeting.split_once("http://") else {
            panic!("the gateway did not start: {}", stderr.text());
        };
        let address = after.split_whitespace().next().and_then(|address| address.parse().ok());
        let address = address.expect("the greeting names the address");
        // Whoever comes first installs it; the others find it done.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().expect("these options go together");
        Gateway { address, key: "any-key".to_owned(), http, stdout, stderr, child }
    }

    /// A command that goes on, and what it writes.
    pub fn spawn(&self, arguments: &[&str]) -> (Child, Transcript, Transcript) {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary is built with the tests");
        let stdout = Transcript::of(child.stdout.take().expect("it is piped"));
        let stderr = Transcript::of(child.stderr.take().expect("it is piped"));
        (child, stdout, stderr)
    }

    /// The book, oldest first. Read it after the gateway has ended, when all of it is in the database.
    pub async fn postings(&self) -> Vec<Posting> {
        let sql = "SELECT id, outcome, path, status, cost_nano_usd, input_tokens, output_tokens \
                   FROM postings ORDER BY id";
        if let Some(url) = &self.postgres {
            let mut book = PgConnection::connect(url).await.expect("Postgres listens");
            return sqlx::query_as(sql).fetch_all(&mut book).await.expect("the book has these columns");
        }
        let mut book = self.open_book().await;
        sqlx::query_as(sql).fetch_all(&mut book).await.expect("the book has these columns")
    }

    /// Calls and nano-dollars as the hourly sums, from which balances are read, have them.
    pub async fn hourly_sums(&self) -> (i64, i64) {
        let sql = "SELECT CAST(COALESCE(SUM(n_calls), 0) AS BIGINT), \
                   CAST(COALESCE(SUM(cost_nano_usd), 0) AS BIGINT) FROM subject_hours WHERE kind = 'team'";
        if let Some(url) = &self.postgres {
            let mut book = PgConnection::connect(url).await.expect("Postgres listens");
            return sqlx::query_as(sql).fetch_one(&mut book).await.expect("the book has these columns");
        }
        let mut book = self.open_book().await;
        sqlx::query_as(sql).fetch_one(&mut book).await.expect("the book has these columns")
    }

    async fn open_book(&self) -> SqliteConnection {
        let file = SqliteConnectOptions::new().filename(self.path().join("data/ledger.sqlite"));
        SqliteConnection::connect_with(&file).await.expect("the gateway leaves a book")
    }
}

/// A line of the book.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Posting {
    pub id: String,
    pub outcome: String,
    pub path: String,
    pub status: i64,
    pub cost_nano_usd: Option<i64>,
    pub input_tokens: i64,
    pub output_tokens: i64,
}

/// What a process has written so far.
pub struct Transcript(watch::Receiver<String>);

impl Transcript {
    fn of(pipe: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (text, read) = watch::channel(String::new());
        TaskTracker::new().spawn(async move {
            let mut lines = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                text.send_modify(|text| {
                    text.push_str(&line);
                    text.push('\n');
                });
            }
        });
        Self(read)
    }

    pub fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until `part` was written, or nothing more will be.
    pub async fn until(&self, part: &str) -> String {
        let mut read = self.0.clone();
        drop(within(part, read.wait_for(|text| text.contains(part))).await);
        self.text()
    }
}

/// A running gateway.
pub struct Gateway {
    pub address: SocketAddr,
    /// What [`Gateway::chat`] presents.
    pub key: String,
    pub http: reqwest::Client,
    pub stdout: Transcript,
    pub stderr: Transcript,
    child: Child,
}

impl Gateway {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn pid(&self) -> Pid {
        let id = self.child.id().expect("the gateway was not waited for");
        Pid::from_raw(id.cast_signed()).expect("a process has a positive number")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the gateway is our child");
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// SIGTERM; the exit must be an orderly one.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}: {}", self.stderr.text());
    }

    pub async fn ended(&mut self) -> ExitStatus {
        within("the gateway ends", self.child.wait()).await.expect("it is our child")
    }

    /// Begins a chat completion; the response may still be streaming.
    pub async fn begin(&self, ask: &Value) -> reqwest::Result<reqwest::Response> {
        let request = self.http.post(self.url("/v1/chat/completions")).bearer_auth(&self.key);
        request.header("content-type", "application/json").body(ask.to_string()).send().await
    }

    /// A chat completion and its whole answer.
    pub async fn chat(&self, ask: &Value) -> Answer {
        let answer = async { Answer::read(self.begin(ask).await?).await };
        within("a chat completion", answer).await.expect("the gateway answers")
    }

    pub async fn get(&self, path: &str) -> Answer {
        let answer = async { Answer::read(self.http.get(self.url(path)).send().await?).await };
        within(path, answer).await.expect("the gateway answers")
    }

    /// A metric without labels, as it stands now; 0 where nothing has set it.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a metric is a number"))
    }

    /// What the team of the gateway's key has spent and holds this month, in nano-dollars.
    pub async fn balance(&self) -> (i64, i64) {
        let request = self.http.get(self.url("/admin/v1/teams")).bearer_auth(&self.key);
        let answer = async { Answer::read(request.send().await?).await };
        let told = within("the balances", answer).await.expect("the gateway answers").json();
        let month = &told["data"][0]["spent_usd"]["month"];
        let nanos = |name: &str| {
            let usd = month[name].as_str().and_then(|usd| usd.parse::<f64>().ok());
            (usd.unwrap_or_else(|| panic!("no {name} in {told}")) * 1e9).round() as i64
        };
        (nanos("spent_usd"), nanos("held_usd"))
    }

    /// Asks the same until the status is `status`; for what takes effect a moment later.
    pub async fn chat_until(&self, ask: &Value, status: u16) -> Answer {
        let asking = async {
            loop {
                let answer = self.chat(ask).await;
                if answer.status == status {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within("the status changes", asking).await
    }
}

/// A chat completion request with one user message.
pub fn ask(text: &str) -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 50})
}

pub fn ask_streamed(text: &str) -> Value {
    let mut ask = ask(text);
    ask["stream"] = true.into();
    ask["stream_options"] = json!({"include_usage": true});
    ask
}

/// What stands in the book for these calls: the ids that their upstream was told.
pub fn ids_of(calls: &[SeenCall]) -> BTreeSet<String> {
    let id = |call: &SeenCall| call.header("x-request-id").expect("every call has an id").to_owned();
    calls.iter().map(id).collect()
}

/// `usage.cost` of a whole answer, or of the last chunk of a stream.
pub fn cost_told(answer: &Answer) -> i64 {
    let text = answer.text();
    let mut objects = text.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    let cost =
        objects.find_map(|object| serde_json::from_str::<Value>(object).ok()?["usage"]["cost"].as_f64());
    (cost.expect("an answer says what it cost") * 1e9).round() as i64
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// OpenAI's error object.
#[derive(Debug)]
pub struct Refusal {
    pub message: String,
    pub kind: String,
    pub param: Option<String>,
    pub code: Option<String>,
}

impl Answer {
    pub async fn read(response: reqwest::Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, body: response.bytes().await? })
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The error object, which must have OpenAI's four keys and no others, and a request id with it.
    pub fn refusal(&self) -> Refusal {
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("no error object in {body}"));
        let mut keys: Vec<&str> = error.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "message", "param", "type"], "{body}");
        assert!(!self.header("x-request-id").is_empty(), "no x-request-id beside {body}");
        assert_eq!(self.header("content-type"), "application/json");
        let text = |key: &str| error[key].as_str().map(str::to_owned);
        Refusal {
            message: text("message").expect("`message` is a string"),
            kind: text("type").expect("`type` is a string"),
            param: text("param"),
            code: text("code"),
        }
    }
}
