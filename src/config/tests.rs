//! The embedded default is whole, and every mistake is told at once.

use super::*;
use crate::ledger::WhenAway;
use crate::ledger::budget::Of;
use crate::money::NanoUsd;

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
        splits_file = 2
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
        [cache.semantic]
        judge_route = 'nobody'
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
        "splits_file",
        "server.listen",
        "server.max_body",
        "upstreams.a",
        "upstreams.b",
        "routes.r",
        "cache.semantic.judge_route",
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

const ROUTES: &str = "[upstreams.a]\ndialect = 'openai'\nbase_url = 'http://h/v1'\nmodel = 'm'\n\
                      [routes.auto]\nupstreams = ['a']\n[routes.other]\nupstreams = ['a']\n";

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn load(folder: &tempfile::TempDir) -> Result<Config, Vec<Mistake>> {
    Config::load(Some(&folder.path().join("stiver.toml")), &Environment::default())
}

const SPLIT: &str =
    "[[split]]\nname = 'x'\nroute = 'auto'\nunit = 'user'\narms = [{ name = 'a', share = 10000 }]";

#[test]
fn splits_are_found_beside_the_configuration_or_where_it_says() {
    let named = format!("splits_file = 'elsewhere.toml'\n{ROUTES}");
    for (main, file) in [(ROUTES, "splits.toml"), (&named, "elsewhere.toml")] {
        let folder = folder(&[("stiver.toml", main), ("prices.toml", PRICES), (file, SPLIT)]);

        let config = load(&folder).unwrap();

        assert_eq!(config.splits.iter().map(|split| split.name.as_str()).collect::<Vec<_>>(), ["x"]);
        let watched: Vec<PathBuf> =
            ["stiver.toml", "prices.toml", file].iter().map(|name| folder.path().join(name)).collect();
        assert_eq!(config.files, watched);
    }
}

#[test]
fn splits_may_be_missing_until_they_are_named_and_are_watched_for_all_the_same() {
    let config = load(&folder(&[("stiver.toml", ROUTES)])).unwrap();
    assert_eq!(config.splits.iter().count(), 0);
    assert!(config.files[2].ends_with("splits.toml"));

    let named = format!("splits_file = 'gone.toml'\nprices_file = 'gone too.toml'\n{ROUTES}");
    let mistakes = load(&folder(&[("stiver.toml", &named)])).unwrap_err();
    let told = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(mistakes.len() == 2 && told.contains("gone.toml: cannot be read"), "{told}");
}

#[test]
fn all_mistakes_in_splits_are_told_at_once_with_file_and_key() {
    let splits = "surprise = 1
        [[split]]
        name = 'x'
        route = 'nowhere'
        unit = 'team'
        arms = [{ name = 'a', share = -1 }, { name = 'b', share = 10000, colour = 'red', upstreams = ['ghost'] }]
        [[split]]
        name = 'x'
        route = 'other'
        unit = 'user'
        primary = 'beauty'
        arms = [{ name = 'c', share = 9000, compression = 'on', upstreams = ['ghost'] }]
        [[split]]
        name = 'x'
        route = 'other'
        unit = 'user'
        arms = [{ name = 'd', share = 9999 }]";
    let folder = folder(&[("stiver.toml", ROUTES), ("prices.toml", PRICES), ("splits.toml", splits)]);

    let mistakes = load(&folder).unwrap_err();

    assert!(mistakes.iter().all(|mistake| mistake.file.ends_with("splits.toml")), "{mistakes:#?}");
    let found = keys(&mistakes);
    for key in [
        "surprise",
        "split[0].unit",
        "split[0].arms[0].share",
        "split[0].arms[1].colour",
        "split[1].primary",
        "split[1].arms[0].compression",
        "split[1].arms[0].upstreams",
        "split[2].name",
        "split[2].route",
        "split[2].arms",
    ] {
        assert!(found.contains(&key), "{key} is missing in {mistakes:#?}");
    }
    assert!(!found.contains(&"split[1].arms"), "shares are not counted where something was left out");
}

#[test]
fn the_splits_that_ship_are_comments_and_good_ones_without_their_marks() {
    let shipped = include_str!("../../config/splits.toml");
    assert!(shipped.lines().all(|line| line.is_empty() || line.starts_with('#')), "the default has no split");

    // `# ` is prose, but for the arms of a list.
    let is_code = |rest: &&str| !rest.starts_with(' ') || rest.starts_with("    {");
    let code = shipped.lines().filter_map(|line| line.strip_prefix('#').filter(is_code));
    let code = code.collect::<Vec<_>>().join("\n");
    let folder =
        folder(&[("stiver.toml", EMBEDDED), ("prices.toml", EMBEDDED_PRICES), ("splits.toml", &code)]);
    let config = load(&folder).unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{code}"));

    assert!(config.splits.iter().count() >= 2, "{code}");
}

#[test]
fn budgets_are_read_with_all_their_words_and_a_keys_are_the_keys() {
    let config = parse(
        "[ledger]\nwhen_shared_store_is_away = { fail_open_usd = 2.5 }\n\
         [teams.a]\nwebhook = 'https://hooks.example/x'\nbudgets = [ { usd = 5, per = 'day', of = 'each_user', soft = 0.5, \
         on_exceed = 'local_only', time_zone = 'Asia/Kolkata' } ]\n\
         [[keys]]\nid = 'k'\nhash = '90cfeaf0e347fc3f0b37c97484f8ffcc251a4bfa7e0c1ce3b6b407476ea1490b'\nteam = 'a'\n\
         budgets = [ { usd = 1, per = 'week' } ]",
    )
    .unwrap();

    let (ring, _) = config.key_ring(&crate::team::Roster::default());
    let [(team, budgets)] = ring.budgets().try_into().unwrap();
    assert_eq!((team.as_str(), budgets.len()), ("a", 2));
    assert_eq!(
        (budgets[0].time_zone.name(), budgets[0].soft_line()),
        ("Asia/Kolkata", NanoUsd::from_usd("2.5"))
    );
    assert_eq!(budgets[1].of, Of::EachKey);
    let allowed = NanoUsd::from_usd("2.5").unwrap();
    assert_eq!(config.ledger.when_shared_store_is_away, WhenAway::FailOpen(allowed));
}

#[test]
fn mistakes_in_budgets_are_told_with_their_keys() {
    let mistakes = parse(
        "[ledger]\nwebhook = 'ftp://x'\nwhen_shared_store_is_away = 'hope'\n\
         [teams.a]\nwebhook = 'x'\nbudgets = [ { usd = 5, per = 'day', time_zone = 'Mars/Olympus' } ]\n\
         [teams.b]\nbudgets = [ { usd = 5, per = 'day', soft = 1.5 } ]\n\
         [teams.c]\nwebhook = 'x'\n\
         [[keys]]\nid = 'k'\nhash = '90cfeaf0e347fc3f0b37c97484f8ffcc251a4bfa7e0c1ce3b6b407476ea1490b'\nteam = 'c'\n\
         budgets = [ { usd = 1, per = 'week', of = 'each_user' } ]",
    )
    .unwrap_err();

    let told = keys(&mistakes);
    for key in [
        "ledger.when_shared_store_is_away",
        "teams.a.budgets[0].time_zone",
        "teams.b.budgets[0].soft",
        "teams.c.webhook",
        "keys[0].budgets[0].of",
    ] {
        assert!(told.contains(&key), "{key}: {mistakes:#?}");
    }
}
