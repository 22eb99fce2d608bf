//! Tests of API keys: their form, what they admit, and that their secrets stay secret.
//!
//! Invariants: none of its own.

use secrecy::ExposeSecret;

use crate::ledger::keys::{KeyRefusal, Keys, NewKey, ParsedKey};
use crate::team::{RouteName, TeamName};

fn new_key() -> NewKey {
    let routes = Some(vec![RouteName::from("auto")]);
    NewKey { name: "ci".to_owned(), team: TeamName::from("search"), routes, expires_ms: Some(2_000) }
}

async fn keys_in(dir: &tempfile::TempDir) -> Keys {
    Keys::open(&dir.path().join("ledger.sqlite")).await.unwrap()
}

#[tokio::test]
async fn a_created_key_is_seen_by_another_process_and_admits_until_it_expires() {
    let dir = tempfile::tempdir().unwrap();
    let (gateway, command_line) = (keys_in(&dir).await, keys_in(&dir).await);

    let (key, secret) = command_line.create(new_key(), 1_000).await.unwrap();

    let loaded = gateway.load_all().await.unwrap();
    let presented = ParsedKey::parse(secret.expose_secret()).unwrap();
    assert_eq!(loaded, [key.clone()]);
    assert_eq!(presented.id(), key.id.as_str());
    assert_eq!(loaded[0].admits(&presented, 1_999), Ok(()));
    assert_eq!(loaded[0].admits(&presented, 2_000), Err(KeyRefusal::Expired));
}

#[tokio::test]
async fn a_revoked_key_admits_nothing_and_is_revoked_once() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys_in(&dir).await;
    let (key, secret) = keys.create(new_key(), 1_000).await.unwrap();

    let first = keys.revoke(&key.id, 1_500).await.unwrap();
    let second = keys.revoke(&key.id, 1_600).await.unwrap();

    let loaded = keys.load_all().await.unwrap().remove(0);
    let presented = ParsedKey::parse(secret.expose_secret()).unwrap();
    assert_eq!((first, second, loaded.revoked_ms), (true, false, Some(1_500)));
    assert_eq!(loaded.admits(&presented, 1_500), Err(KeyRefusal::Revoked));
}

#[tokio::test]
async fn a_key_with_one_character_changed_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys_in(&dir).await;
    let (key, secret) = keys.create(new_key(), 1_000).await.unwrap();
    let mut other = secret.expose_secret().to_owned();
    let last = other.pop().unwrap();
    other.push(if last == 'a' { 'b' } else { 'a' });

    let presented = ParsedKey::parse(&other).unwrap();

    assert_eq!(key.admits(&presented, 1_000), Err(KeyRefusal::Wrong));
}

#[tokio::test]
async fn neither_debug_nor_the_database_shows_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys_in(&dir).await;

    let (key, secret) = keys.create(new_key(), 1_000).await.unwrap();

    let shown = secret.expose_secret();
    let (_, half) = shown.rsplit_once('-').unwrap();
    let printed = format!("{key:?} {secret:?} {:?}", ParsedKey::parse(shown));
    assert!(!printed.contains(half) && !printed.contains(&key.hash.to_hex()), "{printed}");
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(half.len()).any(|window| window == half.as_bytes()));
    }
}

#[test]
fn only_the_exact_form_of_a_key_is_parsed() {
    let (id, secret) = ("a".repeat(12), "b".repeat(40));

    assert!(ParsedKey::parse(&format!("sk-stiver-{id}-{secret}")).is_some());
    for wrong in [
        String::new(),
        "sk-stiver-".to_owned(),
        format!("sk-other-{id}-{secret}"),
        format!("sk-stiver-{id}{secret}"),
        format!("sk-stiver-{id}a-{secret}"),
        format!("sk-stiver-{id}-{secret}b"),
        format!("sk-stiver-{id}-{}", &secret[1..]),
        format!("sk-stiver-{id}-{}-", &secret[1..]),
        format!("sk-stiver-{id}-{}é", &secret[2..]),
    ] {
        assert!(ParsedKey::parse(&wrong).is_none(), "{wrong}");
    }
}
