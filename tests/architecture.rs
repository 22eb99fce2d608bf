//! Holds the order of the house: who may import whom, what stays pure, and what every file looks like.
//!
//! Reads the sources as text and compiles nothing. Naming, size of functions and `unwrap` are clippy's.
//!
//! Invariants: a module that is not in the table is a fault; so is a rule that names no module.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test that reads it")]

#[path = "architecture/source.rs"]
mod source;

use std::path::{Path, PathBuf};

use source::{code, crate_paths, names};

// The layers. An entry is a module, or a part of one; it stands for itself and everything below it.
const VOCABULARY: &[&str] = &["chat", "clock", "money", "team"];
const DECISIONS: &[&str] = &[
    "pricing",
    "prompt",
    "routing",
    "cache::guard",
    "cache::policy",
    "cache::risk",
    "ledger::budget",
    "upstream::backoff",
    "upstream::breaker",
    "upstream::outcome",
];
const ADAPTERS: &[&str] =
    &["admission", "cache", "complexity", "ledger", "notice", "onnx", "shared", "telemetry", "upstream"];

/// What a module may import besides itself: any of these lists.
struct Rule {
    of: &'static str,
    may: &'static [&'static [&'static str]],
}

const fn rule(of: &'static str, may: &'static [&'static [&'static str]]) -> Rule {
    Rule { of, may }
}

/// The rule with the longest `of` holds.
const RULES: &[Rule] = &[
    // 0: vocabulary, in an order without cycles.
    rule("clock", &[]),
    rule("money", &[]),
    rule("team", &[]),
    rule("chat", &[&["money", "team"]]),
    // 1: decisions.
    rule("pricing", &[VOCABULARY]),
    rule("prompt", &[VOCABULARY]),
    rule("routing", &[VOCABULARY, &["pricing"]]),
    rule("cache::guard", &[VOCABULARY]),
    rule("cache::policy", &[VOCABULARY]),
    rule("cache::risk", &[VOCABULARY, &["cache::guard"]]),
    rule("ledger::budget", &[VOCABULARY]),
    rule("upstream::backoff", &[VOCABULARY]),
    rule("upstream::breaker", &[VOCABULARY, &["upstream::outcome"]]),
    rule("upstream::outcome", &[VOCABULARY]),
    // 2: adapters; of a sibling only the decisions.
    rule("admission", &[VOCABULARY, DECISIONS, &["shared", "telemetry"]]),
    rule("cache", &[VOCABULARY, DECISIONS, &["onnx", "telemetry"]]),
    rule("complexity", &[VOCABULARY, DECISIONS, &["onnx", "telemetry"]]),
    rule("ledger", &[VOCABULARY, DECISIONS, &["shared", "telemetry"]]),
    rule("notice", &[VOCABULARY, DECISIONS, &["telemetry"]]),
    rule("onnx", &[VOCABULARY, &["telemetry"]]),
    // The one Redis of all replicas, under budgets and limits alike.
    rule("shared", &[VOCABULARY, &["telemetry"]]),
    rule("telemetry", &[VOCABULARY, DECISIONS]),
    rule("upstream", &[VOCABULARY, DECISIONS, &["telemetry"]]),
    // 3: parts and the whole.
    rule("config", &[VOCABULARY, DECISIONS, ADAPTERS]),
    rule("gateway", &[VOCABULARY, DECISIONS, ADAPTERS, &["config"]]),
    // 4: the story.
    rule("error", &[VOCABULARY, DECISIONS, ADAPTERS, &["config"]]),
    rule("pipeline", &[VOCABULARY, DECISIONS, ADAPTERS, &["config", "error", "gateway"]]),
    // 5: the edge: what it shows of a call, a key or the book, and none of how it came about.
    rule("server", &[VOCABULARY, &["config", "error", "gateway", "pipeline", "telemetry"], SHOWN]),
    rule("cli", &[VOCABULARY, &["config", "error", "gateway", "pipeline", "server", "telemetry"], SHOWN]),
];

const SHOWN: &[&str] = &[
    "admission",
    // What an operator wants gone.
    "cache::EntryId",
    "cache::pair_trial",
    // Why the cache was not asked, in words for people.
    "cache::policy::Ineligible",
    "cache::purge",
    "cache::risk",
    "cache::trial",
    "ledger::budget",
    "ledger::entry",
    "ledger::keys",
    "ledger::report",
    "ledger::text",
    "ledger::verify",
    "ledger::Keeper",
    "pricing",
    "routing::NoPlan",
    "routing::Route",
    "routing::Rung",
];

/// Modules that decide and do nothing else, and what would be doing.
const PURE: &[&[&str]] = &[&["chat", "money", "team"], DECISIONS];
const DOING: &[&str] = &[
    "tokio::",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "rand::",
    "tracing::",
    "metrics::",
];

/// Crates that stay behind one door.
const DOORS: &[(&str, &[&str])] = &[
    ("axum::", &["server"]),
    ("clap::", &["cli"]),
    ("csv::", &["cli", "server"]),
    ("fastembed::", &["cache"]),
    ("hyper::", &["server", "upstream"]),
    ("local_engine::", &["upstream"]),
    ("maud::", &["server"]),
    ("parquet::", &["cli"]),
    ("ort::", &["cache", "complexity", "onnx"]),
    ("qdrant_client::", &["cache"]),
    ("redis::", &["cache", "shared"]),
    // Upstreams are asked, and operators are told.
    ("reqwest::", &["notice", "upstream"]),
    ("sqlx::", &["ledger"]),
];

const ENGINE_MAY_NOT: &[&str] = &["stiver::", "axum::", "hyper::", "reqwest::", "sqlx::", "tokio::"];
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "misc", "types", "util", "utils"];
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "#[ignore", "#[should_panic"];

/// The house rule is 400 lines; this leaves room to finish a thought. Tests may be longer.
const MAX_LINES: usize = 450;
const MAX_TEST_LINES: usize = 600;

/// Everything wrong with a file, each fault in a sentence.
fn faults(path: &str, source: &str) -> Vec<String> {
    let mut faults = hygiene(path, source);
    if let Some(module) = module_of(path).filter(|_| !is_test(path)) {
        faults.extend(imports(&module, &code(source)));
    } else if path.starts_with("local-engine/src") {
        let code = code(source);
        let named = ENGINE_MAY_NOT.iter().filter(|word| names(&code, word));
        faults.extend(named.map(|word| format!("the engine may not name `{word}`")));
    }
    faults.into_iter().map(|fault| format!("{path}: {fault}")).collect()
}

fn hygiene(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !source.starts_with("//!") {
        faults.push("does not open with a module doc (`//!`)".to_owned());
    }
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    if stem == "mod" {
        faults.push("is a mod.rs; name it after its folder, beside it".to_owned());
    }
    if let Some(name) = path.trim_end_matches(".rs").split('/').find(|part| EMPTY_NAMES.contains(part)) {
        faults.push(format!("`{name}` names no subject"));
    }
    let max_lines = if is_test(path) { MAX_TEST_LINES } else { MAX_LINES };
    let n_lines = source.lines().count();
    if n_lines > max_lines {
        faults.push(format!("has {n_lines} lines; {max_lines} are the most, so split it along a noun"));
    }
    let code = source::code_with_tests(source);
    let unfinished = UNFINISHED.iter().filter(|word| names(&code, word));
    faults.extend(unfinished.map(|word| format!("has a `{word}`")));
    faults
}

fn imports(module: &str, code: &str) -> Vec<String> {
    let holds = RULES.iter().filter(|rule| is_within(module, rule.of)).max_by_key(|rule| rule.of.len());
    let Some(rule) = holds else {
        return vec![format!("module `{module}` is not in the table; say what it may import")];
    };
    let segments: Vec<&str> = module.split("::").collect();
    let mut named = crate_paths(code, &segments);
    named.sort();
    named.dedup();
    let is_allowed = |path: &String| {
        is_within(path, rule.of) || rule.may.iter().copied().flatten().any(|may| is_within(path, may))
    };
    let mut faults: Vec<String> = named
        .iter()
        .filter(|path| !is_allowed(path))
        .map(|path| format!("`{}` may not import `{path}`", rule.of))
        .collect();
    if PURE.iter().copied().flatten().any(|pure| is_within(module, pure)) {
        let doing = DOING.iter().filter(|word| names(code, word));
        faults.extend(doing.map(|word| format!("is pure, so it may not name `{word}`")));
    }
    let shut = |(word, doors): &&(&str, &[&str])| {
        names(code, word) && !doors.iter().any(|door| is_within(module, door))
    };
    faults.extend(
        DOORS
            .iter()
            .filter(shut)
            .map(|(word, doors)| format!("may not name `{word}`, which belongs to {}", doors.join(", "))),
    );
    faults
}

/// Whether `path` is `whole` or stands below it.
fn is_within(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `src/cache/guard.rs` is `cache::guard`; the two roots of the crate are no module.
fn module_of(path: &str) -> Option<String> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    (!matches!(inner, "lib" | "main")).then(|| inner.replace('/', "::"))
}

fn is_test(path: &str) -> bool {
    path.trim_end_matches(".rs").split('/').any(|part| part == "tests")
}

fn sources_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "node_modules") {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_keeps_the_rules_of_the_house() {
    let mut files = Vec::new();
    for folder in ["src", "local-engine", "tests", "benches"] {
        sources_below(Path::new(folder), &mut files);
    }
    files.sort();

    let read = |path: &PathBuf| faults(path.to_str().unwrap(), &std::fs::read_to_string(path).unwrap());
    let found: Vec<String> = files.iter().flat_map(read).collect();

    assert!(files.len() > 100, "only {} files were found", files.len());
    assert!(found.is_empty(), "{} faults\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_table_names_the_modules_there_are_and_no_others() {
    let lib = code(&std::fs::read_to_string("src/lib.rs").unwrap());
    let mut declared: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let mut in_table: Vec<&str> =
        RULES.iter().map(|rule| rule.of).filter(|module| !module.contains("::")).collect();
    declared.sort_unstable();
    in_table.sort_unstable();

    assert_eq!(declared, in_table);
    for part in RULES.iter().map(|rule| rule.of.replace("::", "/")) {
        assert!(Path::new(&format!("src/{part}.rs")).exists(), "there is no module {part}");
    }
}

/// One made-up file and the fault it must be told; none where it is good.
fn check(path: &str, body: &str, expected: Option<&str>) {
    let found = faults(path, &format!("//! A doc.\n{body}\n"));

    match expected {
        Some(part) => assert!(found.len() == 1 && found[0].contains(part), "{path}: {body}\n{found:?}"),
        None => assert!(found.is_empty(), "{path}: {body}\n{found:?}"),
    }
}

#[test]
fn an_import_against_the_order_is_told() {
    for (path, body, expected) in [
        ("src/pipeline/plan.rs", "use crate::routing::{Facts, decide};", None),
        ("src/routing/ladder.rs", "use crate::gateway::Gateway;", Some("may not import `gateway::Gateway`")),
        ("src/money.rs", "use crate::team::TeamName;", Some("`money` may not import `team::TeamName`")),
        ("src/cache.rs", "use crate::ledger::Ledger;", Some("may not import `ledger::Ledger`")),
        ("src/cache.rs", "use crate::{ledger};", Some("may not import `ledger`")),
        ("src/admission/key_ring.rs", "use crate::ledger::budget::Budget;", None),
        ("src/cache/fill.rs", "use super::{Cache, Landed};", None),
        (
            "src/cache/guard/order.rs",
            "use super::super::Cache;",
            Some("`cache::guard` may not import `cache::Cache`"),
        ),
        ("src/cache/guard/order.rs", "use super::token::Token;", None),
        (
            "src/server/calls.rs",
            "fn f() { crate::upstream::client::open() }",
            Some("`upstream::client::open`"),
        ),
        ("src/server/models.rs", "use crate::routing::ladder::order;", Some("`routing::ladder::order`")),
        ("src/server/models.rs", "use crate::routing::Route;", None),
        ("src/gateway.rs", "use crate::pipeline::{\n    self,\n};", Some("may not import `pipeline`")),
    ] {
        check(path, body, expected);
    }
}

#[test]
fn a_module_without_a_rule_is_told() {
    check("src/quality.rs", "", Some("`quality` is not in the table"));
    check("src/quality/judge.rs", "", Some("is not in the table"));
    check("src/lib.rs", "", None);
}

#[test]
fn a_decision_that_does_something_is_told() {
    for word in
        ["tokio::spawn(f)", "std::fs::read(p)", "Instant::now()", "rand::random()", "tracing::warn!()"]
    {
        let body = format!("fn f() {{ {word}; }}");
        for path in
            ["src/routing.rs", "src/cache/policy.rs", "src/ledger/budget.rs", "src/upstream/breaker.rs"]
        {
            check(path, &body, Some("is pure"));
        }
        check("src/cache/fill.rs", &body, None);
    }
    check("src/routing.rs", "use std::time::Instant; fn f(now: Instant) { brand::name() }", None);
}

#[test]
fn a_crate_used_away_from_its_door_is_told() {
    check("src/pipeline/reply.rs", "use axum::body::Body;", Some("may not name `axum::`"));
    check("src/error.rs", "fn f(e: sqlx::Error) {}", Some("may not name `sqlx::`"));
    check("src/pipeline/score.rs", "use ort::session::Session;", Some("may not name `ort::`"));
    check("src/server/calls.rs", "use axum::body::Body;", None);
    check("local-engine/src/lib.rs", "use tokio::task;", Some("the engine may not name `tokio::`"));
}

#[test]
fn an_untidy_file_is_told() {
    let long = |n_lines: usize| "\n".repeat(n_lines - 2);

    assert_eq!(
        faults("src/team.rs", "use std::fmt;\n"),
        ["src/team.rs: does not open with a module doc (`//!`)"]
    );
    check("src/cache/mod.rs", "", Some("is a mod.rs"));
    check("src/chat/utils.rs", "", Some("`utils` names no subject"));
    check("src/cache/helpers/key.rs", "", Some("`helpers` names no subject"));
    check("src/team.rs", "fn f() { todo!() }", Some("has a `todo!`"));
    check("src/team.rs", "#[cfg(test)]\nmod tests {\n#[ignore]\nfn f() {}\n}", Some("has a `#[ignore`"));
    check("tests/gateway/budgets.rs", "#[should_panic]\nfn f() {}", Some("has a `#[should_panic`"));
    check("src/team.rs", &long(MAX_LINES), None);
    check("src/team.rs", &long(MAX_LINES + 1), Some("has 451 lines"));
    check("src/team/tests.rs", &long(MAX_TEST_LINES), None);
    check("src/team/tests.rs", &long(MAX_TEST_LINES + 1), Some("has 601 lines"));
}

#[test]
fn words_in_comments_literals_and_tests_are_not_code() {
    for body in [
        "// use crate::gateway::Gateway;",
        "/* a /* nested */ todo!() crate::gateway::X */",
        r##"const A: &str = "todo!() \" crate::gateway::X"; const B: &str = r#"" tokio:: "#;"##,
        r#"const C: [char; 3] = ['"', '\'', 'é']; fn f<'a>(x: &'a str) {} // tokio::"#,
        "#[cfg(test)]\nmod tests {\n    use super::*;\n    use crate::gateway::Gateway;\n    fn f() { Instant::now(); }\n}",
        "#[cfg(test)]\nuse crate::gateway::{A, B};",
        "#[cfg(test)]\nmod tests;",
    ] {
        check("src/routing.rs", body, None);
    }
    let after = "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::gateway::Gateway;";
    check("src/routing.rs", after, Some("may not import `gateway::Gateway`"));
    check(
        "src/routing.rs",
        "const Q: char = '\"'; use crate::gateway::A;",
        Some("may not import `gateway::A`"),
    );
}

#[test]
fn imports_are_read_in_all_their_forms() {
    for (text, expected) in [
        ("use crate::a::B;", vec!["a::B"]),
        ("use crate::{a::{B, c::{self, D}}, e as f, g::*};", vec!["a::B", "a::c", "a::c::D", "e", "g"]),
        ("use crate::a::{\n    B,\n    C,\n};\nuse crate::d;", vec!["a::B", "a::C", "d"]),
        ("let x: Vec<crate::a::B> = crate::c::D::new::<u8>();", vec!["a::B", "c::D::new"]),
        ("pub(in crate::a) fn f() {}", vec!["a"]),
        ("use super::b; use super::super::c::D; fn f(x: super::E) {}", vec!["m::b", "c::D", "m::E"]),
        ("use other_crate::a; macro!($crate::a);", vec![]),
    ] {
        assert_eq!(crate_paths(text, &["m", "n"]), expected, "{text}");
    }
}
