//! Holds what is deployed to what the gateway is: example configurations, the dashboard, the containers.
//!
//! Starts no container and no gateway; `stiver check` reads the examples as an operator would.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test that reads it")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("config/examples").unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| !path.to_str().unwrap().ends_with(".prices.toml")).collect();
    found.sort();
    found
}

/// What `stiver check` says of a file in an empty environment, and whether it found it good.
fn check(config: &Path) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stiver"));
    let output = command.arg("--config").arg(config).arg("check").env_clear().output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn every_example_is_a_configuration_without_a_mistake() {
    let examples = examples();

    assert!(examples.len() >= 3, "{examples:?}");
    for example in examples {
        let (is_good, said) = check(&example);
        assert!(is_good && said.contains("no mistake"), "{}: {said}", example.display());
    }
}

#[test]
fn a_broken_example_would_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("teams.toml");
    let text = std::fs::read_to_string("config/examples/teams.toml").unwrap();
    let prices = std::env::current_dir().unwrap().join("config/prices.toml");
    let text = text.replace("../prices.toml", prices.to_str().unwrap());
    std::fs::write(&broken, text.replace("team = \"batch\"", "team = \"nobody\"")).unwrap();

    let (is_good, said) = check(&broken);

    assert!(!is_good && said.contains("`nobody` is not configured"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn the_examples_say_what_they_are_for() {
    let (_, compose) = check(Path::new("config/examples/compose.toml"));
    let (_, fleet) = check(Path::new("config/examples/fleet-of-vllm.toml"));
    let (_, teams) = check(Path::new("config/examples/teams.toml"));

    assert!(
        compose.contains("listen     0.0.0.0:8080") && compose.contains("team       everybody"),
        "{compose}"
    );
    assert_eq!(fleet.matches("(on)").count(), 3, "a keyless upstream needs no environment: {fleet}");
    assert!(teams.contains("team       batch") && teams.contains("team       search"), "{teams}");
    assert!(teams.contains("keys       2 in the file"), "{teams}");
}

/// Names in the sources' metric macros, as Prometheus gets to see them.
fn emitted_metrics(folder: &Path, found: &mut BTreeSet<String>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            emitted_metrics(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for kind in ["counter!(", "gauge!(", "histogram!("] {
            for (at, _) in text.match_indices(kind).filter(|(at, _)| !text[..*at].ends_with("describe_")) {
                let name = text[at + kind.len()..].trim_start().strip_prefix('"');
                let name = name.and_then(|rest| rest.split('"').next());
                found.extend(name.map(|name| name.replace('.', "_")));
            }
        }
    }
}

/// Everything that the sources say, one after the other.
fn sources(folder: &Path) -> String {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| {
        if path.is_dir() { sources(&path) } else { std::fs::read_to_string(&path).unwrap() }
    };
    paths.map(text).collect()
}

#[test]
fn every_metric_is_described_and_nothing_else_is() {
    let text = sources(Path::new("src"));
    let mut emitted = BTreeSet::new();
    emitted_metrics(Path::new("src"), &mut emitted);
    let mut described = BTreeSet::new();
    for kind in ["describe_counter!(", "describe_gauge!(", "describe_histogram!("] {
        for (at, _) in text.match_indices(kind) {
            let name = text[at + kind.len()..].trim_start().strip_prefix('"').unwrap();
            described.insert(name.split('"').next().unwrap());
        }
    }

    assert!(emitted.len() >= 40, "{emitted:?}");
    let is_described = |name: &&String| described.iter().any(|known| known.replace('.', "_") == **name);
    let undescribed: Vec<&String> = emitted.iter().filter(|name| !is_described(name)).collect();
    assert!(undescribed.is_empty(), "not described: {undescribed:?}");
    // Where it is counted its name stands once more, in the macro or in a table.
    let is_counted = |name: &&&str| text.matches(&format!("\"{name}\"")).count() > 1;
    let uncounted: Vec<&&str> = described.iter().filter(|name| !is_counted(name)).collect();
    assert!(uncounted.is_empty(), "described and never counted: {uncounted:?}");
}

/// Words of a query that name one of our metrics.
fn metrics_of(query: &str) -> impl Iterator<Item = &str> {
    query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').filter(|word| {
        word.starts_with("stiver_") || (word.starts_with("gen_ai_") && word.ends_with("_bucket"))
    })
}

#[test]
fn every_metric_on_the_dashboard_is_one_the_gateway_emits() {
    let text = std::fs::read_to_string("config/grafana/dashboards/stiver.json").unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut emitted = BTreeSet::new();
    emitted_metrics(Path::new("src"), &mut emitted);

    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<&str> = queries.map(|target| target["expr"].as_str().unwrap()).collect();
    let named: BTreeSet<&str> = queries.iter().flat_map(|query| metrics_of(query)).collect();

    assert!(named.len() >= 10, "{named:?}");
    for name in named {
        let name = name.trim_end_matches("_bucket");
        assert!(emitted.contains(name), "{name} is not among {emitted:?}");
    }
}

#[test]
fn the_dashboard_asks_the_datasource_that_is_provisioned() {
    let dashboard = std::fs::read_to_string("config/grafana/dashboards/stiver.json").unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let sources = std::fs::read_to_string("config/grafana/provisioning/datasources/prometheus.yml").unwrap();

    let panels = dashboard["panels"].as_array().unwrap();
    let asked: BTreeSet<&str> =
        panels.iter().map(|panel| panel["datasource"]["uid"].as_str().unwrap()).collect();

    assert_eq!(asked.into_iter().collect::<Vec<_>>(), ["prometheus"]);
    assert!(sources.contains("uid: prometheus\n"), "{sources}");
}

#[test]
fn the_containers_agree_on_the_files_they_share() {
    let compose = std::fs::read_to_string("docker-compose.yml").unwrap();
    let image = std::fs::read_to_string("Dockerfile").unwrap();
    let scraped = std::fs::read_to_string("config/prometheus.yml").unwrap();

    let files = compose.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.split(':').next());
    let files: Vec<&str> = files.collect();

    assert!(files.len() >= 4, "{files:?}");
    for file in files.into_iter().chain(["config/examples/compose.toml"]) {
        assert!(Path::new(file).exists(), "{file} is mounted and is not there");
    }
    assert!(compose.contains("STIVER_CONFIG: config/examples/compose.toml"));
    assert!(image.contains("EXPOSE 8080") && scraped.contains("\"gateway:8080\""));
    assert!(!image.contains("USER root"));
}
