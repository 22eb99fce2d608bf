//! Tests of the table of teams: names are given once, and nothing is overwritten unseen.
//!
//! Invariants: none of its own.

use crate::ledger::keys::Keys;
use crate::team::{Document, TeamName, TeamRecord, Term};

fn record(name: &str, config: &str) -> TeamRecord {
    let term = Term::from(1_000, Some(9_000));
    let config = Document::from(config.to_owned());
    TeamRecord { name: TeamName::from(name), config, changed_ms: 1_000, term }
}

async fn keys_in(dir: &tempfile::TempDir) -> Keys {
    Keys::open(&super::config_in(dir.path())).await.unwrap()
}

#[tokio::test]
async fn a_team_is_seen_by_another_process_as_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let (gateway, command_line) = (keys_in(&dir).await, keys_in(&dir).await);
    let made = record("b'; DROP TABLE teams; --", "{\"routes\":[\"\\u0000\"]}");

    assert!(command_line.teams().create(&made).await.unwrap());
    assert!(command_line.teams().create(&record("a", "{}")).await.unwrap());

    let roster = gateway.load_roster().await.unwrap();
    assert_eq!(roster.teams, [record("a", "{}"), made.clone()]);
    assert_eq!(gateway.teams().find(&made.name).await.unwrap(), Some(made));
    assert_eq!(gateway.teams().find(&TeamName::from("c")).await.unwrap(), None);
}

#[tokio::test]
async fn a_name_is_given_once_and_stays_with_a_team_that_was_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let teams = keys_in(&dir).await.teams();
    let made = record("a", "{}");

    assert!(teams.create(&made).await.unwrap());
    assert!(!teams.create(&record("a", "{\"routes\":[]}")).await.unwrap());
    assert!(teams.revoke(&made.name, 2_000).await.unwrap());
    assert!(!teams.revoke(&made.name, 3_000).await.unwrap());
    assert!(!teams.create(&made).await.unwrap());
    assert!(!teams.expire(&made.name, None, 4_000).await.unwrap());
    assert!(!teams.replace(&made, &Document::from("[]".to_owned()), 4_000).await.unwrap());

    let term = Term { revoked_ms: Some(2_000), ..made.term };
    assert_eq!(teams.find(&made.name).await.unwrap(), Some(TeamRecord { term, changed_ms: 2_000, ..made }));
}

#[tokio::test]
async fn what_was_changed_meanwhile_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let teams = keys_in(&dir).await.teams();
    let made = record("a", "{}");
    teams.create(&made).await.unwrap();
    let (mine, theirs) = ("{\"routes\":[]}".to_owned().into(), "{\"limits\":{}}".to_owned().into());

    assert!(teams.replace(&made, &theirs, 2_000).await.unwrap());
    assert!(!teams.replace(&made, &mine, 3_000).await.unwrap());

    let found = teams.find(&made.name).await.unwrap().unwrap();
    assert_eq!((&found.config, found.changed_ms, found.term), (&theirs, 2_000, made.term));
    assert!(teams.replace(&found, &mine, 3_000).await.unwrap());
}

#[tokio::test]
async fn a_team_ends_sooner_later_or_never() {
    let dir = tempfile::tempdir().unwrap();
    let teams = keys_in(&dir).await.teams();
    let made = record("a", "{}");
    teams.create(&made).await.unwrap();

    for at_ms in [Some(2_000), Some(20_000), None, Some(0)] {
        assert!(teams.expire(&made.name, at_ms, 3_000).await.unwrap());

        assert_eq!(teams.find(&made.name).await.unwrap().unwrap().term.expires_ms, at_ms);
    }
    assert!(!teams.expire(&TeamName::from("b"), None, 3_000).await.unwrap());
}
