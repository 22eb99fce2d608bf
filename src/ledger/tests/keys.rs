//! Tests of API keys: that another process sees them, and that their secrets stay secret.
//!
//! Invariants: none of its own.

use secrecy::ExposeSecret;

use crate::ledger::keys::{Keys, NewKey};
use crate::team::{Document, KeyId, PresentedKey, RouteName, TeamName};

fn new_key() -> NewKey {
    let routes = Some(vec![RouteName::from("auto")]);
    NewKey {
        name: "ci".to_owned(),
        team: TeamName::from("search"),
        routes,
        expires_ms: Some(2_000),
        budgets: None,
    }
}

async fn keys_in(dir: &tempfile::TempDir) -> Keys {
    Keys::open(&super::config_in(dir.path())).await.unwrap()
}

#[tokio::test]
async fn a_created_key_is_seen_by_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let (gateway, command_line) = (keys_in(&dir).await, keys_in(&dir).await);

    let (key, secret) = command_line.create(new_key(), 1_000).await.unwrap();

    let loaded = gateway.load_all().await.unwrap();
    let presented = PresentedKey::parse(secret.expose_secret()).unwrap();
    assert_eq!(loaded, std::slice::from_ref(&key));
    assert_eq!((presented.id, presented.hash), (key.id.as_str(), loaded[0].hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_on_a_new_file_all_open_it() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();

        let (a, b, c) = tokio::join!(keys_in(&dir), keys_in(&dir), keys_in(&dir));

        for keys in [a, b, c] {
            keys.create(new_key(), 1_000).await.unwrap();
        }
        assert_eq!(keys_in(&dir).await.load_all().await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a_key_is_revoked_once() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys_in(&dir).await;
    let (key, _) = keys.create(new_key(), 1_000).await.unwrap();

    let first = keys.revoke(&key.id, 1_500).await.unwrap();
    let second = keys.revoke(&key.id, 1_600).await.unwrap();

    let loaded = keys.load_all().await.unwrap().remove(0);
    assert_eq!((first, second, loaded.revoked_ms), (true, false, Some(1_500)));
}

#[tokio::test]
async fn budgets_of_a_key_are_set_kept_by_rotation_and_gone_with_none() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys_in(&dir).await;
    let budgets = Some(Document::from("[1]".to_owned()));
    let (key, _) = keys.create(NewKey { budgets: budgets.clone(), ..new_key() }, 1_000).await.unwrap();
    let other = Some(Document::from("[2]".to_owned()));

    assert_eq!(keys.load_all().await.unwrap()[0].budgets, budgets);
    assert!(keys.set_budgets(&key.id, other.as_ref()).await.unwrap());
    let old = keys.load_all().await.unwrap().remove(0);
    let (new, _) = keys.rotate(&old, 1_500, 1_100).await.unwrap();
    assert!(keys.set_budgets(&key.id, None).await.unwrap());

    let roster = keys.load_roster().await.unwrap();
    let of = |id: &KeyId| roster.keys.iter().find(|key| key.id == *id).unwrap().budgets.clone();
    assert_eq!((of(&key.id), of(&new.id)), (None, other));
    keys.revoke(&key.id, 1_500).await.unwrap();
    assert!(!keys.set_budgets(&key.id, None).await.unwrap());
    assert!(!keys.set_budgets(&KeyId::from("none"), None).await.unwrap());
}

#[tokio::test]
async fn neither_debug_nor_the_database_shows_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys_in(&dir).await;

    let (key, secret) = keys.create(new_key(), 1_000).await.unwrap();

    let shown = secret.expose_secret();
    let (_, half) = shown.rsplit_once('-').unwrap();
    let printed = format!("{key:?} {secret:?} {:?}", PresentedKey::parse(shown));
    assert!(!printed.contains(half) && !printed.contains(&key.hash.to_hex()), "{printed}");
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(half.len()).any(|window| window == half.as_bytes()));
    }
}
