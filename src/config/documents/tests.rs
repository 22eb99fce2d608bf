//! A team that came as JSON is read as the file's is: the same words, the same mistakes, the same places.
//!
//! Invariants: none of its own.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::Environment;

const ROUTES: &str = "[upstreams.a]\ndialect = 'openai'\nbase_url = 'http://h/v1'\nmodel = 'm'\n\
                      [routes.auto]\nupstreams = ['a']\n[routes.other]\nupstreams = ['a']\n";

fn config() -> Config {
    Config::parse("test.toml", ROUTES, "", &Environment::default()).unwrap()
}

fn read(given: &Json) -> Checked<Team> {
    config().read_team(&TeamName::from("t"), given, Term::ALWAYS)
}

/// The mistakes that a file with this team has, by their place within the team.
fn mistakes_in_file(team: &Json) -> Vec<(String, String)> {
    let mut file: Table = ROUTES.parse().unwrap();
    let team: Value = serde_json::from_value(team.clone()).unwrap();
    file.insert("teams".to_owned(), Value::Table([("t".to_owned(), team)].into_iter().collect()));
    let read = Config::parse("test.toml", &file.to_string(), "", &Environment::default());
    let place = |key: &str| {
        let rest = key.strip_prefix("teams.t").unwrap();
        rest.strip_prefix('.').unwrap_or(rest).to_owned()
    };
    let told = |mistake: Mistake| (place(&mistake.key), mistake.problem);
    read.err().unwrap_or_default().into_iter().map(told).collect()
}

fn one_of(values: &[Json]) -> impl Strategy<Value = Json> + use<> {
    prop::sample::select(values.to_vec())
}

fn budget() -> impl Strategy<Value = Json> {
    let fields = (
        prop::option::of(one_of(&[
            json!(5),
            json!(0),
            json!(-1),
            json!(0.25),
            json!("0.000000001"),
            json!("1e3"),
        ])),
        prop::option::of(one_of(&[json!("day"), json!("month"), json!("year"), json!(1)])),
        prop::option::of(one_of(&[json!("refuse"), json!("local_only"), json!("hope")])),
        prop::option::of(one_of(&[json!(0.8), json!(0), json!(1), json!("x")])),
        prop::option::of(one_of(&[json!("Europe/Berlin"), json!("UTC"), json!("Mars/Olympus")])),
        prop::option::of(one_of(&[json!("team"), json!("each_user"), json!("all"), json!([])])),
    );
    let names = ["usd", "per", "on_exceed", "soft", "time_zone", "of"];
    fields.prop_map(move |(usd, per, on_exceed, soft, zone, of)| {
        let given = names.into_iter().zip([usd, per, on_exceed, soft, zone, of]);
        given.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    })
}

fn team() -> impl Strategy<Value = Json> {
    let budgets = prop::collection::vec(budget(), 0..4).prop_map(Json::Array);
    let fields = (
        prop::option::of(one_of(&[json!([]), json!(["auto"]), json!(["auto", "gone"]), json!("auto")])),
        prop::option::of(prop_oneof![budgets.boxed(), one_of(&[json!({}), json!(1)]).boxed()]),
        prop::option::of(one_of(&[json!("https://h/x"), json!(""), json!("ftp://h"), json!(true)])),
        prop::option::of(one_of(&[
            json!({"concurrency": 1}),
            json!({"concurrency": 0, "requests_per_minute": 0}),
            json!({"tokens_per_minute": -1, "colour": 2}),
        ])),
        prop::option::of(one_of(&[json!(1), json!({"a": [1]})])),
    );
    fields.prop_map(|(routes, budgets, webhook, limits, colour)| {
        let names = ["routes", "budgets", "webhook", "limits", "colour"];
        let given = names.into_iter().zip([routes, budgets, webhook, limits, colour]);
        given.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    })
}

proptest! {
    #[test]
    fn file_and_document_tell_the_same_mistakes_at_the_same_places(given in team()) {
        let mut of_file = mistakes_in_file(&given);
        let of_document = read(&given).err().unwrap_or_default();
        let mut of_document: Vec<_> = of_document.into_iter().map(|told| (told.key, told.problem)).collect();

        of_file.sort();
        of_document.sort();
        prop_assert_eq!(of_document, of_file);
    }

    #[test]
    fn what_a_budget_is_shown_as_is_read_as_that_budget(given in budget()) {
        if let Ok((_, budgets)) = read(&json!({"budgets": [given]})).map(|(kept, team)| (kept, team.budgets)) {
            let shown = json!({"budgets": &budgets[..]});

            prop_assert_eq!(read(&shown).unwrap().1.budgets, budgets);
        }
    }
}

#[test]
fn a_place_is_told_as_the_file_tells_it_and_null_is_left_out() {
    for (given, place) in [
        (json!({"budgets": [{"usd": 1, "per": "day"}, {"usd": 1, "per": "year"}]}), "budgets[1].per"),
        (json!({"budgets": [{"usd": 1}]}), "budgets[0]"),
        (json!({"limits": {"concurrency": 0}}), "limits.concurrency"),
        (json!({"routes": ["gone"]}), "routes"),
        (json!({"routes": ["auto", null]}), "routes[1]"),
        (json!({"colour": 1}), "colour"),
        (json!({"webhook": "https://h/${SECRET}"}), "webhook"),
        (json!({"limits": {"concurrency": u64::MAX}}), "limits.concurrency"),
    ] {
        let mistakes = read(&given).unwrap_err();
        assert_eq!((mistakes.len(), mistakes[0].key.as_str()), (1, place), "{given}: {mistakes:?}");
    }
    let (kept, team) = read(&json!({"routes": null, "limits": {"concurrency": null}})).unwrap();
    assert_eq!((kept.as_str(), team.routes), (r#"{"limits":{}}"#, None));
    for given in [json!(null), json!([]), json!("x"), json!(1)] {
        assert!(read(&given).is_err(), "{given}");
    }
}

#[test]
fn a_document_has_at_most_so_many_bytes() {
    let name = |n_bytes: usize| json!({"webhook": format!("https://{}", "h".repeat(n_bytes))});
    let n_around = name(0).to_string().len();

    assert!(read(&name(MAX_DOCUMENT_BYTES - n_around)).is_ok());
    let mistakes = read(&name(MAX_DOCUMENT_BYTES - n_around + 1)).unwrap_err();
    assert!(mistakes[0].to_string().contains("has 65537 bytes, at most 65536"), "{mistakes:?}");
}

#[test]
fn budgets_of_a_key_are_the_keys() {
    let of = |given: Json| config().read_key_budgets(&given);
    let (_, budgets) = of(json!([{"usd": "1.5", "per": "week"}])).unwrap();
    assert_eq!(budgets[0].of, crate::ledger::budget::Of::EachKey);

    for (given, place) in [
        (json!([{"usd": 1, "per": "week", "of": "each_user"}]), "budgets[0].of"),
        (json!([{"usd": 1, "per": "week"}, {"usd": 1, "per": "age"}]), "budgets[1].per"),
        (json!([{"usd": 1, "per": "week", "colour": 1}]), "budgets[0].colour"),
        (json!({"usd": 1}), "budgets"),
        (json!([null]), "budgets[0]"),
    ] {
        let mistakes = of(given.clone()).unwrap_err();
        assert_eq!(mistakes[0].key, place, "{given}: {mistakes:?}");
    }
}
