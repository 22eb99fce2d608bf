//! What a gateway is started with: configuration text, prices, a folder and a clock.
//!
//! Invariants: unless a test says otherwise no model is loaded, retries do not wait, every file is
//! in the test's own folder, and the clock stands.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stiver::clock::Clock;
use stiver::config::{Config, Environment};
use stiver::gateway::{Gateway, StartError};
use stiver::team::KeyHash;
use tempfile::TempDir;
use toml::{Table, Value};

use super::TestGateway;
use super::stack::Stack;
use crate::fake_upstream::FakeUpstream;

/// Wednesday, 15 October 2025, noon UTC.
pub const NOW_MS: i64 = 1_760_529_600_000;

pub type Folder = Arc<TempDir>;

/// A gateway about to be started.
#[derive(Clone)]
pub struct Setup {
    toml: String,
    prices: String,
    splits: Option<String>,
    folder: Folder,
    clock: Clock,
    with_models: bool,
}

impl Setup {
    pub fn of(toml: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a folder for the test can be made"));
        let clock = Clock::standing_at(NOW_MS);
        let (toml, prices) = (toml.to_owned(), default_prices());
        Self { toml, prices, splits: None, folder, clock, with_models: false }
    }

    /// Replaces the prices.
    pub fn prices(self, prices: &str) -> Self {
        Self { prices: prices.to_owned(), ..self }
    }

    /// Divides routes. The configuration is then read from files, as `stiver serve` reads it, so that it can be
    /// read again.
    pub fn splits(self, splits: &str) -> Self {
        Self { splits: Some(splits.to_owned()), ..self }
    }

    /// Goes on with what an earlier gateway left.
    pub fn in_folder(self, folder: Folder) -> Self {
        Self { folder, ..self }
    }

    pub fn clock(self, clock: &Clock) -> Self {
        Self { clock: clock.clone(), ..self }
    }

    /// Loads the embedder and the classifier; see [`have_models`].
    pub fn with_models(self) -> Self {
        Self { with_models: true, ..self }
    }

    /// What outlives the gateway.
    pub fn folder(&self) -> Folder {
        Arc::clone(&self.folder)
    }

    pub async fn start(self) -> TestGateway {
        let gateway = self.open().await.unwrap_or_else(|error| panic!("the gateway does not start: {error}"));
        TestGateway::serve(gateway, self.folder).await
    }

    /// Why it does not start; `None` where it does.
    pub async fn try_start(self) -> Option<String> {
        self.open().await.err().map(|error| error.to_string())
    }

    /// Writes the files that `stiver serve --config` reads, and gives the path of the first.
    pub fn write_files(&self) -> PathBuf {
        let path = self.folder.path().join("stiver.toml");
        std::fs::write(&path, self.whole_toml()).expect("the folder can be written");
        std::fs::write(self.folder.path().join("prices.toml"), &self.prices)
            .expect("the folder can be written");
        if let Some(splits) = &self.splits {
            std::fs::write(self.folder.path().join("splits.toml"), splits)
                .expect("the folder can be written");
        }
        path
    }

    /// Where this test's services are; nothing where the gateway is the embedded default.
    pub fn stack(&self) -> Stack {
        Stack::of(self.folder.path())
    }

    async fn open(&self) -> Result<Arc<Gateway>, StartError> {
        self.stack().prepare().await;
        let env = Environment::default();
        let config = match &self.splits {
            None => Config::parse("the test", &self.whole_toml(), &self.prices, &env),
            Some(_) => Config::load(Some(&self.write_files()), &env),
        };
        let config = config.unwrap_or_else(|mistakes| panic!("{}\n{mistakes:#?}", self.toml));
        Gateway::open(config, &env, self.clock.clone()).await
    }

    /// The test's text, with whatever it does not say set for tests.
    fn whole_toml(&self) -> String {
        let mut whole: Table = self.toml.parse().unwrap_or_else(|error| panic!("{error}\n{}", self.toml));
        let in_folder = |name: &str| self.folder.path().join(name).display().to_string();
        let mut default = |keys: &[&str], value: Value| set_default(&mut whole, keys, value);
        default(&["ledger", "path"], in_folder("ledger.sqlite").into());
        default(&["ledger", "journal_dir"], in_folder("journal").into());
        default(&["ledger", "flush_interval_ms"], 1.into());
        let Stack { redis_urls, qdrant, .. } = self.stack();
        if let Some(url) = self.stack().ledger_url() {
            default(&["ledger", "url"], url.into());
        }
        if let Some([answers, shared]) = redis_urls {
            default(&["shared", "redis_url"], shared.into());
            default(&["shared", "redis_timeout_ms"], 5_000.into());
            default(&["cache", "exact", "redis_url"], answers.into());
            default(&["cache", "exact", "redis_timeout_ms"], 5_000.into());
        }
        if let Some((url, collection)) = qdrant {
            default(&["cache", "semantic", "qdrant_url"], url.into());
            default(&["cache", "semantic", "qdrant_collection"], collection.into());
        }
        default(&["cache", "semantic", "data_dir"], in_folder("semantic").into());
        if self.with_models {
            // Without optimization the models are slow, and other tests run beside.
            default(&["onnx", "library"], runtime_library().display().to_string().into());
            default(&["cache", "semantic", "model_dir"], model_dir("embedder").into());
            default(&["cache", "semantic", "deadline_ms"], 30_000.into());
            default(&["cache", "semantic", "threads"], 1.into());
            // What serves from the first question on; how the promise is kept is a matter of tests of its own.
            default(&["cache", "semantic", "policy"], "threshold".into());
            default(&["cache", "semantic", "guard_dir"], model_dir("guard").into());
            default(&["cache", "semantic", "guard_deadline_ms"], 30_000.into());
            default(&["cache", "semantic", "guard_threads"], 1.into());
            default(&["complexity", "model_dir"], model_dir("complexity").into());
            default(&["complexity", "deadline_ms"], 30_000.into());
        } else {
            default(&["onnx", "library"], in_folder("no-such-library.so").into());
            default(&["cache", "semantic", "enabled"], false.into());
        }
        whole.to_string()
    }
}

fn set_default(table: &mut Table, keys: &[&str], value: Value) {
    let Some((last, sections)) = keys.split_last() else { return };
    let mut table = table;
    for name in sections {
        let section = table.entry(*name).or_insert_with(|| Value::Table(Table::new()));
        table = section.as_table_mut().expect("a section is a table");
    }
    table.entry(*last).or_insert(value);
}

fn runtime_library() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onnxruntime/libonnxruntime.so")
}

fn model_dir(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("router-models").join(name).display().to_string()
}

/// Whether the models can be run here; if not, says why the test is skipped.
pub fn have_models() -> bool {
    let library = runtime_library();
    let is_there = library.is_file();
    if !is_there {
        eprintln!("skipped: no {}; run scripts/fetch-onnxruntime.sh", library.display());
    }
    is_there
}

/// An upstream at `fake`. `more` are more lines of its section.
pub fn upstream(name: &str, fake: &FakeUpstream, model: &str, more: &str) -> String {
    upstream_at(name, &fake.base_url(), model, more)
}

/// An upstream at any address.
pub fn upstream_at(name: &str, base_url: &str, model: &str, more: &str) -> String {
    let backoff = "backoff = { first_ms = 1, max_ms = 2, jitter = 0.0 }\n";
    let backoff = if more.contains("backoff") { "" } else { backoff };
    format!(
        "[upstreams.{name}]\ndialect = \"openai\"\nbase_url = \"{base_url}\"\napi_key = \"upstream-key\"\n\
         model = \"{model}\"\n{backoff}{more}\n"
    )
}

/// A route without a ladder.
pub fn route(name: &str, upstreams: &[&str]) -> String {
    format!("[routes.\"{name}\"]\nupstreams = {upstreams:?}\n")
}

/// One upstream and one route for each endpoint, by OpenAI's names, and the built-in embedder.
pub fn endpoints(fake: &FakeUpstream) -> String {
    let models = [
        ("large", "gpt-4o"),
        ("small", "gpt-4o-mini"),
        ("instruct", "gpt-3.5-turbo-instruct"),
        ("vectors", "text-embedding-3-small"),
    ];
    let mut toml = route("all-MiniLM-L6-v2", &["embedder"]);
    for (name, model) in models {
        toml += &upstream(name, fake, model, "");
        toml += &route(model, &[name]);
    }
    toml
}

/// A team with a key; see [`key_of`]. `more` are more lines of its section.
pub fn team(name: &str, more: &str) -> String {
    let hash = KeyHash::of(&key_text(name)).to_hex();
    format!("[teams.{name}]\n{more}\n[[keys]]\nid = \"{name}\"\nhash = \"{hash}\"\nteam = \"{name}\"\n")
}

/// The header that a team's calls carry.
pub fn key_of(team: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {}", key_text(team)))
}

fn key_text(team: &str) -> String {
    format!("sk-stiver-{team}-secret")
}

/// A `[[price]]` from nano-dollars per million tokens, by the fake's rules: cached input costs half,
/// cache writes a quarter more, audio eight times.
pub fn price(model: &str, input: i64, output: i64) -> String {
    let text = [
        ("input", input),
        ("output", output),
        ("cached_read", input / 2),
        ("cache_write", input / 4 * 5),
        ("audio_input", input * 8),
        ("audio_output", output * 8),
    ];
    let rates = text.map(|(name, nanos)| format!("{name} = {}\n", dollars(nanos))).concat();
    format!(
        "[[price]]\nmodel = \"{model}\"\nfrom = \"2025-01-01\"\n{rates}context_tokens = 128000\n\
         max_output_tokens = 4096\n"
    )
}

fn dollars(nanos: i64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// The fake's price list, in our words.
pub fn default_prices() -> String {
    let listed = [
        ("gpt-4o", 2_500_000_000, 10_000_000_000),
        ("gpt-4o-mini", 150_000_000, 600_000_000),
        ("gpt-3.5-turbo-instruct", 1_500_000_000, 2_000_000_000),
        ("text-embedding-3-small", 20_000_000, 0),
    ];
    listed.iter().map(|(model, input, output)| price(model, *input, *output)).collect()
}
