//! One team in several places: in the file and the database, in two replicas, and while the database is away.

use http::Method;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use stiver::config::Environment;

use super::{ADMIN_TOML, ask, done, key_for, made, read, toml, tried};
use crate::fake_upstream::FakeUpstream;
use crate::harness::stack::has_sqlite;
use crate::harness::{Setup, TestGateway, chat};

/// Writes another file and lets the gateway read it.
async fn reload(gateway: &TestGateway, change: impl FnOnce(String) -> String) {
    let path = gateway.folder().path().join("stiver.toml");
    let text = std::fs::read_to_string(&path).expect("the file was written at the start");
    std::fs::write(&path, change(text)).expect("the folder can be written");
    assert_eq!(gateway.gateway().reload(&Environment::default()).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_files_team_holds_and_that_of_the_database_again_when_it_is_gone() {
    let fake = FakeUpstream::start();
    let gateway = Setup::of(&toml(&fake)).splits("").start().await;
    let key = made(&gateway, &json!({"name": "search", "routes": ["gpt-4o"]})).await;
    let status = async |model: &str| ask(&gateway, &key, &chat(model, "Hello")).await.status;
    assert_eq!((status("gpt-4o").await, status("gpt-4o-mini").await), (200, 403));
    assert_eq!(read(&gateway, "teams/search").await["note"], json!(null));

    reload(&gateway, |text| text + "\n[teams.search]\nroutes = [\"gpt-4o-mini\"]\n").await;

    assert_eq!((status("gpt-4o").await, status("gpt-4o-mini").await), (403, 200));
    let told = read(&gateway, "teams").await;
    assert_eq!(told["data"].as_array().unwrap().len(), 1);
    assert_eq!(told["data"][0]["kept_in"], "file");
    assert!(told["data"][0]["note"].as_str().unwrap().contains("the file's holds"), "{told}");
    for (method, path, body) in [
        (Method::POST, "teams", json!({"name": "search"})),
        (Method::PUT, "teams/search", json!({})),
        (Method::PATCH, "teams/search", json!({})),
        (Method::PUT, "teams/search/budgets", json!({"budgets": []})),
        (Method::POST, "teams/search/expire", json!({"in_hours": 0})),
        (Method::DELETE, "teams/search", json!({})),
    ] {
        let answer = tried(&gateway, method.clone(), path, &body).await;
        assert!(
            answer.status == 400 && answer.text().contains("stands in the configuration file"),
            "{method} {path}: {}",
            answer.text()
        );
    }

    reload(&gateway, |text| text.replace("[teams.search]\nroutes = [\"gpt-4o-mini\"]\n", "")).await;

    assert_eq!(
        (status("gpt-4o").await, status("gpt-4o-mini").await),
        (200, 403),
        "a reload keeps what the database has"
    );
    gateway.finish().await;
}

#[tokio::test]
async fn another_replica_on_the_same_database_takes_over_every_change() {
    let fake = FakeUpstream::start();
    let setup = Setup::of(&toml(&fake));
    let folder = setup.folder();
    let gateway = setup.start().await;
    let journal = folder.path().join("journal-of-the-other").display().to_string();
    let other = toml(&fake) + &format!("[ledger]\njournal_dir = \"{journal}\"\n");
    let other = Setup::of(&other).in_folder(folder).start().await;
    let key = made(&gateway, &json!({"name": "search", "routes": ["gpt-4o"]})).await;
    let there = async |model: &str| {
        other.gateway().refresh_roster().await.unwrap();
        ask(&other, &key, &chat(model, "Hello")).await.status
    };

    assert_eq!((there("gpt-4o").await, there("gpt-4o-mini").await), (200, 403));
    done(
        &gateway,
        Method::PATCH,
        "teams/search",
        &json!({"routes": null, "budgets": [{"usd": 0, "per": "day"}]}),
    )
    .await;
    assert_eq!(there("gpt-4o-mini").await, 429);
    done(&gateway, Method::PUT, "teams/search/budgets", &json!({"budgets": [{"usd": 5, "per": "day"}]}))
        .await;
    assert_eq!(there("gpt-4o-mini").await, 200);
    done(&gateway, Method::DELETE, "teams/search", &json!({})).await;
    assert_eq!(there("gpt-4o-mini").await, 401);
    assert_eq!(read(&other, "teams/search").await["state"], "revoked");
    gateway.finish().await;
    other.finish().await;
}

#[tokio::test]
async fn without_its_database_the_last_teams_stay_in_force_through_a_reload() {
    if !has_sqlite() {
        return;
    }
    let fake = FakeUpstream::start();
    let gateway = Setup::of(&toml(&fake)).splits("").start().await;
    let key = made(&gateway, &json!({"name": "search", "budgets": [{"usd": 0, "per": "day"}]})).await;
    let free = made(&gateway, &json!({"name": "batch"})).await;
    let options = SqliteConnectOptions::new().filename(gateway.folder().path().join("ledger.sqlite"));
    let mut connection: SqliteConnection = options.connect().await.unwrap();
    sqlx::raw_sql("ALTER TABLE teams RENAME TO away").execute(&mut connection).await.unwrap();

    assert!(gateway.gateway().refresh_roster().await.unwrap_err().contains("the last ones stay in force"));
    reload(&gateway, |text| text + "\n[teams.more]\n").await;

    assert_eq!(ask(&gateway, &key, &chat("gpt-4o", "Hello")).await.status, 429, "its budget holds");
    assert_eq!(ask(&gateway, &free, &chat("gpt-4o", "Hello")).await.status, 200);
    assert_eq!(read(&gateway, "teams").await["data"].as_array().unwrap().len(), 3);
    for (method, path, body) in [
        (Method::POST, "teams", json!({"name": "new"})),
        (Method::PUT, "teams/batch", json!({})),
        (Method::DELETE, "teams/batch", json!({})),
    ] {
        let answer = tried(&gateway, method.clone(), path, &body).await;
        assert_eq!(
            (answer.status, answer.error().1.as_str()),
            (503, "ledger_away"),
            "{method} {path}: {}",
            answer.text()
        );
    }
    sqlx::raw_sql("ALTER TABLE away RENAME TO teams").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    done(&gateway, Method::DELETE, "teams/batch", &json!({})).await;
    assert_eq!(ask(&gateway, &free, &chat("gpt-4o", "Hello")).await.status, 401);
    gateway.finish().await;
}

#[tokio::test]
async fn teams_outlive_a_restart_and_close_the_door() {
    let fake = FakeUpstream::start();
    let setup = Setup::of(&toml(&fake));
    let folder = setup.folder();
    let gateway = setup.start().await;
    done(&gateway, Method::POST, "teams", &json!({"name": "search", "routes": ["gpt-4o"]})).await;
    let key = key_for(&gateway, "search").await;
    gateway.finish().await;

    let public =
        ADMIN_TOML.to_owned() + &crate::harness::endpoints(&fake) + "[server]\nlisten = \"0.0.0.0:0\"\n";
    let gateway = Setup::of(&public).in_folder(folder).start().await;

    assert_eq!(ask(&gateway, &key, &chat("gpt-4o", "Hello")).await.status, 200);
    assert_eq!(ask(&gateway, &key, &chat("gpt-4o-mini", "Hello")).await.status, 403);
    assert_eq!(ask(&gateway, "anything", &chat("gpt-4o", "Hello")).await.status, 401);
    gateway.finish().await;
}
