//! The embedded default is whole, and every mistake is told at once.

use super::*;

const PRICES: &str = "[[price]]\nmodel = 'm'\nfrom = '2025-01-01'\ninput = 1.0\noutput = 2.0";

fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
    Config::parse("test.toml", text, PRICES, &Environment::default())
}

fn keys(mistakes: &[Mistake]) -> Vec<&str> {
    mistakes.iter().map(|mistake| mistake.key.as_str()).collect()
}

fn remote(upstream: &UpstreamConfig) -> Option<&RemoteConfig> {
    match upstream {
        UpstreamConfig::Remote(remote) => Some(remote),
        UpstreamConfig::Local(_) => None,
    }
}

#[test]
fn the_embedded_default_needs_nothing_and_listens_on_loopback_only() {
    let config = Config::parse("embedded", EMBEDDED, EMBEDDED_PRICES, &Environment::default()).unwrap();

    assert!(config.server.listen.ip().is_loopback());
    assert!(config.upstreams.values().all(|upstream| upstream.is_off() || upstream.is_local()));
    assert_eq!(config.upstreams.values().filter(|upstream| upstream.is_local()).count(), 1);
    assert!(config.teams.is_empty() && config.keys.is_empty());
}

#[test]
fn a_key_in_the_environment_turns_the_upstreams_of_the_default_on() {
    let env = Environment::from([("OPENAI_API_KEY", "sk-x"), ("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")]);

    let config = Config::parse("embedded", EMBEDDED, EMBEDDED_PRICES, &env).unwrap();

    assert!(!config.upstreams.values().any(UpstreamConfig::is_off));
    assert!(
        config
            .upstreams
            .values()
            .filter_map(remote)
            .all(|upstream| upstream.base_url == "http://127.0.0.1:9/v1")
    );
}

#[test]
fn every_upstream_of_the_default_has_a_price() {
    let config = Config::parse("embedded", EMBEDDED, EMBEDDED_PRICES, &Environment::default()).unwrap();

    for upstream in config.upstreams.values().filter(|upstream| !upstream.is_local()) {
        assert!(config.prices.price(upstream.model(), i64::MAX).is_some(), "{}", upstream.model());
    }
}

#[test]
fn a_section_is_read_by_its_dialect_and_every_mistake_in_it_is_told() {
    let mistakes = parse(
        "[upstreams.a]\ndialect = 'local'\nmodel_dir = ''\nusd_per_hour = -1.0\nbase_url = 'x'\n\
         cpu = { thread = 1 }\nengine = { policy = 'lottery' }\n[upstreams.b]\ndialect = 'soap'",
    )
    .unwrap_err();

    let told = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for words in
        ["upstreams.a.base_url", "upstreams.a.cpu.thread", "upstreams.a.engine.policy", "`model_dir`"]
    {
        assert!(told.contains(words), "{words} is missing in:\n{told}");
    }
    assert!(told.contains("`usd_per_hour` is -1") && told.contains("soap"), "{told}");
}

#[test]
fn what_the_commented_default_says_is_what_the_code_defaults_to() {
    let commented = Config::parse("embedded", EMBEDDED, EMBEDDED_PRICES, &Environment::default()).unwrap();
    let bare = parse("").unwrap();

    assert_eq!(commented.server, bare.server);
    assert_eq!(format!("{:?}", commented.ledger), format!("{:?}", bare.ledger));
    assert_eq!(format!("{:?}", commented.cache), format!("{:?}", bare.cache));
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_key_and_a_remedy() {
    let mistakes = parse(
        "
        surprise = 1
        [server]
        listen = 'here'
        max_body = 3
        [upstreams.a]
        dialect = 'openai'
        base_url = 'ftp://x'
        model = 'm'
        [upstreams.b]
        dialect = 'openai'
        [routes.r]
        upstreams = ['ghost']
        [teams.t]
        routes = ['nowhere']
        limits = { concurrency = 0 }
        budgets = [{ usd = -1, per = 'day' }]
        [[keys]]
        id = 'k'
        hash = 'short'
        team = 'nobody'
        ",
    )
    .unwrap_err();

    let found = keys(&mistakes);
    for key in [
        "surprise",
        "server.listen",
        "server.max_body",
        "upstreams.a",
        "upstreams.b",
        "routes.r",
        "teams.t.routes",
        "teams.t.limits.concurrency",
        "keys[0].team",
        "keys[0].hash",
    ] {
        assert!(found.contains(&key), "{key} is missing in {mistakes:#?}");
    }
    assert!(found.iter().any(|key| key.starts_with("teams.t.budgets[0]")), "{mistakes:#?}");
    assert!(mistakes.iter().all(|mistake| mistake.file == "test.toml" && mistake.problem.len() > 10));
}

#[test]
fn a_mistake_never_shows_a_secret() {
    let env = Environment::from([("KEY", "sk-very-secret\u{7f}")]);
    let text = "[upstreams.a]\ndialect = 'openai'\nbase_url = 'http://h/v1'\nmodel = 'm'\napi_key = '${KEY}'";

    let mistakes = Config::parse("test.toml", text, PRICES, &env).unwrap_err();

    assert!(!format!("{mistakes:?}").contains("very-secret"), "{mistakes:?}");
}

#[test]
fn mistakes_in_prices_name_their_file_and_entry() {
    let prices = "[[price]]\nmodel = 'm'\nfrom = 'soon'\ninput = -1\noutput = 1.0\n[other]";

    let mistakes = Config::parse("test.toml", "", prices, &Environment::default()).unwrap_err();

    assert!(mistakes.iter().all(|mistake| mistake.file == "the prices of test.toml"), "{mistakes:?}");
    let found = keys(&mistakes);
    assert!(found.contains(&"other") && found.contains(&"price[0].input"), "{mistakes:?}");
}
