//! A/B splits as an operator meets them: a file that is checked, explained, noticed when it appears, and counted.

use std::time::Duration;

use serde_json::Value;

use crate::fake_upstream::FakeUpstream;
use crate::harness::{Gateway, Home, MODEL, ask, config, within};

fn halves(name: &str, unit: &str) -> String {
    format!(
        "[[split]]\nname = \"{name}\"\nroute = \"{MODEL}\"\nunit = \"{unit}\"\n\
         arms = [{{ name = \"control\", share = 5000 }}, {{ name = \"other\", share = 5000, cache = \"off\" }}]\n"
    )
}

#[tokio::test]
async fn check_prints_the_splits_in_effect_and_tells_of_bad_ones_by_file_and_key() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    home.write("config/splits.toml", &halves("cheap-first", "header:x-tenant"));

    let good = home.run(&["check"]).await;
    home.write("config/splits.toml", &halves("cheap-first", "user").replace("5000", "4500"));
    let bad = home.run(&["check"]).await;

    assert_eq!(good.code, Some(0), "{}", good.stderr);
    let line = format!(
        "split      cheap-first: route {MODEL} by header:x-tenant: control (50 %, the control) | other (50 %): cache off"
    );
    assert!(good.stdout.lines().any(|known| known == line), "{line} is not in {}", good.stdout);
    assert_eq!(bad.code, Some(2));
    let told = "config/splits.toml: split[0].arms: shares sum to 9000 basis points, need 10000";
    assert!(bad.stderr.contains(told), "{}", bad.stderr);
}

#[tokio::test]
async fn explain_shows_the_arm_or_why_there_is_none() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    home.write("config/splits.toml", &halves("tenants", "header:x-tenant"));
    home.write("request.json", &ask("x").to_string());
    let explain = async |headers: &[&str]| {
        let said = home.run(&[&["explain", "request.json"], headers].concat()).await;
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        serde_json::from_str::<Value>(&said.stdout).unwrap()["split"].clone()
    };

    let without = explain(&[]).await;
    let mut arms = Vec::new();
    for tenant in ["x-tenant: a", "X-Tenant:a", "x-tenant: b", "x-tenant: c", "x-tenant: d", "x-tenant: e"] {
        let told = explain(&["--header", tenant]).await;
        assert_eq!((&told["name"], &told["unit"]), (&"tenants".into(), &"header:x-tenant".into()));
        arms.push(told["arm"].as_str().unwrap().to_owned());
    }

    assert_eq!(without["arm"], Value::Null);
    assert!(without["reason"].as_str().unwrap().contains("no header `x-tenant`"), "{without}");
    assert_eq!(arms[0], arms[1]);
    arms.sort();
    arms.dedup();
    assert_eq!(arms, ["control", "other"]);
    let said = home.run(&["explain", "request.json", "--header", "x-tenant"]).await;
    assert!(said.code == Some(2) && said.stderr.contains("x-stiver-user: ada"), "{}", said.stderr);
}

/// Waits until the metrics have a line.
async fn until_metrics(gateway: &Gateway, line: &str) {
    let looking = async {
        while !gateway.get("/metrics").await.text().lines().any(|known| known == line) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(line, looking).await;
}

#[tokio::test]
async fn a_file_of_splits_that_appears_is_noticed_and_its_arms_are_counted() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let gateway = home.start().await;
    let (mut of_ada, without) = (ask("x"), ask("y"));
    of_ada["user"] = "ada".into();

    let before = gateway.chat(&of_ada).await;
    home.write("config/splits.toml", &halves("late", "user"));
    until_metrics(&gateway, "stiver_split_idle{split=\"late\"} 0").await;
    let first = gateway.chat(&of_ada).await;
    let again = gateway.chat(&of_ada).await;
    let in_none = gateway.chat(&without).await;

    assert_eq!((before.header("x-stiver-split"), in_none.header("x-stiver-split")), ("", ""));
    let arm = first.header("x-stiver-split").strip_prefix("late=").expect("ada is in an arm");
    assert_eq!(again.header("x-stiver-split"), first.header("x-stiver-split"));
    until_metrics(&gateway, &format!("stiver_split_calls_total{{split=\"late\",arm=\"{arm}\"}} 2")).await;
    until_metrics(&gateway, "stiver_split_unassigned_calls_total{split=\"late\"} 1").await;
    gateway.stop().await;
}
