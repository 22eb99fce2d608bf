//! The command line: what the commands print, and how they exit.
//!
//! Results stand on standard output and everything else on standard error, so that scripts can rely on it.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::fake_upstream::FakeUpstream;
use crate::harness::{Answer, Home, MODEL, Said, UPSTREAM_KEY, ask, config};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

fn check(said: &Said, code: i32) {
    assert_eq!(said.code, Some(code), "{}\n{}", said.stdout, said.stderr);
}

#[tokio::test]
async fn help_names_every_command() {
    let home = Home::empty();

    let all = home.run(&["--help"]).await;
    let keys = home.run(&["keys", "--help"]).await;

    check(&all, 0);
    for command in ["serve", "check", "explain", "keys", "teams"] {
        let listed = |line: &str| line.trim_start().starts_with(&format!("{command} "));
        assert!(all.stdout.lines().any(listed), "{command} is not in {}", all.stdout);
        check(&home.run(&[command, "--help"]).await, 0);
    }
    for command in ["create", "list", "revoke"] {
        assert!(keys.stdout.contains(&format!("  {command} ")), "{command} is not in {}", keys.stdout);
    }
    check(&home.run(&["srve"]).await, 2);
}

#[tokio::test]
async fn check_says_what_a_good_file_means_and_touches_nothing() {
    let fake = FakeUpstream::start();
    let off = "[upstreams.spare]\ndialect = \"openai\"\nbase_url = \"http://x\"\napi_key = \"${NOT_SET:-}\"\nmodel = \"gpt-4o\"\n";
    let home = Home::new(&config(&fake, off));

    let said = home.run(&["check"]).await;

    check(&said, 0);
    for line in [
        "config/stiver.toml: no mistake",
        "upstream   fake: gpt-4o-mini (on)",
        "upstream   spare: gpt-4o (off: its api_key is empty)",
        "route      gpt-4o-mini: fake",
    ] {
        assert!(said.stdout.lines().any(|known| known == line), "{line} is not in {}", said.stdout);
    }
    assert!(!said.stdout.contains(UPSTREAM_KEY));
    assert!(!home.path().join("data").exists(), "check opens nothing");
}

const MISTAKEN: &str = r#"
[server]
lisen = "127.0.0.1:1"
max_body_bytes = "big"
[upstreams.a]
dialect = "opnai"
base_url = "http://a"
api_key = "hunter2"
model = "m"
[upstreams.b]
dialect = "openai"
base_url = "ftp://b"
api_key = "${NOT_THERE}"
model = "m"
[routes.r]
upstreams = ["nowhere"]
[teams.t]
routes = ["missing"]
budgets = [{ usd = -1, per = "month", on_exceed = "refuse" }]
limits = { concurrency = 0 }
[[keys]]
id = "k"
hash = "xyz"
team = "nobody"
[extra]
"#;

#[tokio::test]
async fn check_tells_all_mistakes_at_once_with_file_key_and_remedy() {
    let home = Home::new(MISTAKEN);
    home.write(
        "config/prices.toml",
        "[[price]]\nmodel = \"m\"\nfrom = \"yesterday\"\ninput = -1\noutput = 2\n",
    );
    let expected = [
        ("server.lisen", "expected one of `listen`"),
        ("server.max_body_bytes", "expected usize"),
        ("upstreams.a.dialect", "expected `openai`"),
        ("upstreams.b", "must be `https` or `http`"),
        ("upstreams.b.api_key", "set it, or write ${NOT_THERE:-default}"),
        ("routes.r", "there are: b, embedder"),
        ("teams.t.budgets[0].usd", "need zero or more"),
        ("teams.t.routes", "there are: r"),
        ("teams.t.limits.concurrency", "leave it out for no limit"),
        ("keys[0].hash", "`stiver keys create --toml` prints it"),
        ("keys[0].team", "add `[teams.nobody]`"),
        ("extra", "is not a section"),
        ("price[0].from", "write YYYY-MM-DD"),
        ("price[0].input", "not negative"),
    ];

    let said = home.run(&["check"]).await;
    let served = home.run(&["serve"]).await;

    check(&said, 2);
    for (key, remedy) in expected {
        let file = if key.starts_with("price[") { "prices.toml" } else { "stiver.toml" };
        let tells = |line: &str| line.contains(&format!("config/{file}: {key}: ")) && line.contains(remedy);
        assert!(said.stderr.lines().any(tells), "{key} … {remedy} is not in {}", said.stderr);
    }
    let n_told = said.stderr.lines().filter(|line| line.starts_with("  ")).count();
    assert_eq!(n_told, expected.len(), "each is told once: {}", said.stderr);
    assert!(!said.stderr.contains("hunter2"), "a mistake never quotes a key");
    assert_eq!(said.stdout, "");
    check(&served, 2);
    assert_eq!(served.stderr, said.stderr, "serving refuses with the same mistakes");
}

#[tokio::test]
async fn explain_decides_and_calls_nothing() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    home.write("request.json", &ask("What is the capital of France?").to_string());
    home.write("broken.json", "{\"model\":");

    let said = home.run(&["explain", "request.json"]).await;
    let broken = home.run(&["explain", "broken.json"]).await;
    let missing = home.run(&["explain", "nothing.json"]).await;

    check(&said, 0);
    let decision: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(decision["object"], "stiver.decision");
    assert_eq!(decision["attempts"][0]["upstream"], "fake");
    // 50 output tokens at $0.60 a million, and a prompt of some tokens at $0.15.
    let at_most: f64 = decision["cost_usd_at_most"].as_str().unwrap().parse().unwrap();
    assert!((0.000_030..0.000_060).contains(&at_most), "{decision}");
    assert!(fake.calls().is_empty());
    assert!(!home.path().join("data").exists(), "nothing is left behind");
    check(&broken, 1);
    assert!(broken.stderr.contains("broken.json: the body is not a JSON object"), "{}", broken.stderr);
    check(&missing, 1);
    assert!(missing.stderr.contains("nothing.json cannot be read"), "{}", missing.stderr);
}

#[tokio::test]
async fn explain_knows_the_keys_of_the_database_and_needs_no_address() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, "[server]\nlisten = \"0.0.0.0:80\"\n"));
    home.write("request.json", &ask("x").to_string());
    let key = home.create_key(&[]).await;

    let with_key = home.run(&["explain", "request.json", "--key", &key]).await;
    let without = home.run(&["explain", "request.json"]).await;

    check(&with_key, 0);
    assert!(with_key.stdout.contains("\"team\": \"tests\""), "{}", with_key.stdout);
    check(&without, 1);
    assert!(without.stderr.contains("no API key was sent"), "{}", without.stderr);
}

#[tokio::test]
async fn keys_are_created_listed_and_revoked() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));

    let none = home.run(&["keys", "list"]).await;
    let created = home.run(&["keys", "create", "--team", "search", "--name", "ci", "--routes", MODEL]).await;
    let key = created.stdout.trim();
    let id = key.strip_prefix("sk-stiver-").and_then(|rest| rest.split('-').next()).unwrap();
    let listed = home.run(&["keys", "list"]).await;
    let revoked = home.run(&["keys", "revoke", id]).await;
    let again = home.run(&["keys", "revoke", id]).await;
    let listed_again = home.run(&["keys", "list"]).await;
    let for_nothing = home.run(&["keys", "create", "--team", "search", "--routes", "nowhere"]).await;

    check(&none, 0);
    assert!(none.stderr.contains("`stiver keys create --team NAME` makes one"), "{}", none.stderr);
    let row = |said: &Said| -> Vec<String> {
        let row = said.stdout.lines().find(|line| line.starts_with(id));
        row.expect("the key is listed").split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row(&listed), [id, "search", "ci", "good", MODEL]);
    assert_eq!(row(&listed_again), [id, "search", "ci", "revoked", MODEL]);
    assert!(!listed.stdout.contains(key), "the secret is shown once");
    check(&revoked, 0);
    check(&again, 1);
    assert!(again.stderr.contains("`stiver keys list` shows them"), "{}", again.stderr);
    check(&for_nothing, 1);
    assert!(for_nothing.stderr.contains("there is no route `nowhere`"), "{}", for_nothing.stderr);
}

#[tokio::test]
async fn a_key_printed_as_toml_opens_once_it_stands_in_the_file() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));

    let printed = home.run(&["keys", "create", "--team", "search", "--toml", "--budget", "0.5/day"]).await;
    assert!(printed.stdout.contains("budgets = [{ per = \"day\", usd = \"0.5\" }]"), "{}", printed.stdout);
    assert!(!home.path().join("data").exists(), "nothing is stored");
    let key = printed.stderr.split_whitespace().find(|word| word.starts_with("sk-stiver-")).unwrap();
    home.write("config/stiver.toml", &config(&fake, &format!("[teams.search]\n{}", printed.stdout)));
    let mut gateway = home.start().await;
    let stranger = gateway.chat(&ask("x")).await;
    gateway.key = key.to_owned();
    let known = gateway.chat(&ask("x")).await;

    assert_eq!((stranger.status, known.status), (401, 200));
    assert!(!printed.stdout.contains(key.rsplit('-').next().unwrap()), "the file gets the hash only");
}

#[tokio::test]
async fn teams_are_made_listed_ended_and_revoked_beside_a_running_gateway() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, "[admin]\nkey = \"operator-0123456789-abcdef\"\n[teams.fixed]\n"));
    home.write("team.toml", "routes = [\"gpt-4o-mini\"]\n[[budgets]]\nusd = 0.5\nper = \"week\"\n");
    let mut gateway = home.start().await;

    let none = home.run(&["keys", "create", "--team", "search"]).await;
    check(&none, 1);
    assert!(none.stderr.contains("there is no team `search`; there are: fixed"), "{}", none.stderr);
    check(&home.run(&["teams", "create", "search", "--budget", "0/day", "--budget", "5/month"]).await, 0);
    check(&home.run(&["teams", "create", "batch", "--toml-file", "team.toml", "--expires", "1"]).await, 0);
    gateway.key = home.run(&["keys", "create", "--team", "search"]).await.stdout.trim().to_owned();
    gateway.chat_until(&ask("x"), 429).await;
    let own = ["keys", "create", "--team", "batch", "--budget", "0/day"];
    gateway.key = home.run(&own).await.stdout.trim().to_owned();
    gateway.chat_until(&ask("x"), 429).await;
    gateway.key = home.run(&["keys", "create", "--team", "batch"]).await.stdout.trim().to_owned();
    gateway.chat_until(&ask("x"), 200).await;
    check(&home.run(&["teams", "expire", "batch", "--days", "0"]).await, 0);
    gateway.chat_until(&ask("x"), 401).await;
    check(&home.run(&["teams", "expire", "batch", "--never"]).await, 0);
    gateway.chat_until(&ask("x"), 200).await;
    check(&home.run(&["teams", "revoke", "batch"]).await, 0);
    gateway.chat_until(&ask("x"), 401).await;

    let listed = home.run(&["teams", "list"]).await;
    let row = |name: &str| -> String {
        let row = listed.stdout.lines().find(|line| line.starts_with(name)).expect("the team is listed");
        row.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("search"), "search database good 0.00/day 5.00/month");
    assert_eq!(row("batch"), "batch database revoked 0.50/week");
    assert_eq!(row("fixed"), "fixed file good none");
    for (arguments, expected) in [
        (vec!["create", "fixed"], "stands in config/stiver.toml"),
        (vec!["create", "batch"], "already, or there was one"),
        (vec!["create", ""], "the team's name is empty"),
        (vec!["create", "a\u{1b}[2J"], "control character"),
        (vec!["create", "a", "--budget", "5/year"], "budgets[0].per"),
        (vec!["create", "a", "--routes", "nowhere"], "names route `nowhere`"),
        (vec!["create", "a", "--toml-file", "nothing.toml"], "nothing.toml cannot be read"),
        (vec!["revoke", "fixed"], "stands in config/stiver.toml"),
        (vec!["revoke", "batch"], "`stiver teams list` shows them"),
        (vec!["expire", "batch", "--never"], "`stiver teams list` shows them"),
    ] {
        let said = home.run(&[&["teams"], arguments.as_slice()].concat()).await;
        check(&said, 1);
        assert!(said.stderr.contains(expected), "{arguments:?}: {}", said.stderr);
    }
    check(&home.run(&["teams", "create", "a", "--budget", "5"]).await, 2);
    check(&home.run(&["teams", "expire", "a"]).await, 2);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_in_use_already_is_named_with_a_way_out() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let gateway = home.start().await;

    let same_folder = home.run(&["serve", "--listen", "127.0.0.1:0"]).await;
    let same_address = home.run(&["serve", "--listen", &gateway.address.to_string()]).await;

    check(&same_folder, 1);
    assert!(
        same_folder.stderr.contains("give each process a `journal_dir` of its own"),
        "{}",
        same_folder.stderr
    );
    check(&same_address, 1);
    assert!(same_address.stderr.contains("choose another with --listen"), "{}", same_address.stderr);
    assert_eq!(gateway.chat(&ask("are you well?")).await.status, 200);
}

#[tokio::test]
async fn the_embedded_default_starts_in_an_empty_folder_and_tells_what_is_missing() {
    let home = Home::empty();
    let gateway = home.start().await;
    let mut ask_auto = ask("x");
    ask_auto["model"] = "auto".into();

    let ready = gateway.get("/readyz").await;
    let refused = gateway.chat(&ask_auto).await;

    assert_eq!(ready.status, 200, "it can still answer from what it has");
    let parts = ready.json()["parts"].as_array().cloned().unwrap();
    for (name, remedy) in [
        ("upstreams", "set OPENAI_API_KEY"),
        ("embedder", "check `cache.semantic.model_dir`"),
        ("guard", "check `cache.semantic.guard_dir`"),
        ("complexity", "router-models/complexity"),
    ] {
        let part = parts.iter().find(|part| part["name"] == name).unwrap();
        assert_eq!(part["ready"], false, "{part}");
        assert!(part["problem"].as_str().unwrap().contains(remedy), "{part}");
        assert!(
            gateway.stdout.text().contains(&format!("not ready         {name}: ")),
            "the greeting tells {name}"
        );
    }
    let refusal = refused.refusal();
    assert_eq!((refused.status, refusal.code.as_deref()), (503, Some("no_upstream")));
    assert!(refusal.message.contains("OPENAI_API_KEY"), "{}", refusal.message);
    assert_eq!(refused.header("x-should-retry"), "false");
}

#[tokio::test]
async fn the_embedded_default_needs_two_variables_to_answer() {
    let fake = FakeUpstream::start();
    let home = Home::empty().with("OPENAI_API_KEY", UPSTREAM_KEY).with("OPENAI_BASE_URL", fake.base_url());
    let gateway = home.start().await;
    let mut ask_auto = ask("What is the capital of France?");
    ask_auto["model"] = "auto".into();

    let answer = gateway.chat(&ask_auto).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((answer.header("x-stiver-tier"), answer.header("x-stiver-path")), ("small", "upstream"));
    let bearer = format!("Bearer {UPSTREAM_KEY}");
    assert_eq!(fake.calls()[0].header("authorization"), Some(bearer.as_str()));
}

#[tokio::test]
async fn the_model_that_ships_with_the_gateway_embeds_without_network_or_key() {
    let library = Path::new(env!("CARGO_BIN_EXE_stiver")).ancestors().nth(2).unwrap().join("onnxruntime");
    if !library.exists() {
        eprintln!("skipped: {} is missing; scripts/fetch-onnxruntime.sh fetches it", library.display());
        return;
    }
    let home = Home::empty();
    symlink(Path::new(REPOSITORY).join("router-models"), home.path().join("router-models")).unwrap();
    let gateway = home.start().await;
    let embed = |input: Value| {
        let body = json!({"model": "all-MiniLM-L6-v2", "input": input}).to_string();
        let request = gateway.http.post(gateway.url("/v1/embeddings")).body(body);
        async { Answer::read(request.send().await.unwrap()).await.unwrap() }
    };

    let answer =
        embed(json!(["a cat sat on the mat", "a kitten rested on a rug", "the bond market fell"])).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((answer.header("x-stiver-path"), answer.header("x-stiver-cost-usd")), ("local", "0.00"));
    let vectors: Vec<Vec<f64>> = answer.json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| serde_json::from_value(item["embedding"].clone()).unwrap())
        .collect();
    let dot = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(x, y)| x * y).sum::<f64>();
    assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [384; 3]);
    assert!((dot(0, 0) - 1.0).abs() < 1e-3, "vectors have length one: {}", dot(0, 0));
    assert!(dot(0, 1) > 0.5 && dot(0, 2) < 0.3, "alike texts lie together: {} {}", dot(0, 1), dot(0, 2));
}
