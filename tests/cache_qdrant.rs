//! One contract for both semantic indexes, and what is particular to Qdrant.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "qdrant_server/server.rs"]
mod qdrant_server;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qdrant_server::InProcessQdrant;
use stiver::cache::index::{
    Index, IndexEntry, IndexError, Neighbour, QdrantConfig, QdrantIndex, ScanConfig, ScanIndex, Wanted,
};
use stiver::cache::purge::Chosen;
use stiver::cache::risk::GroupKey;
use stiver::cache::{EntryId, Origin, StoredAnswer};
use stiver::chat::{Fingerprint, Usage};
use stiver::money::NanoUsd;
use stiver::team::{CallId, RouteName, TeamName};

const NOW_MS: i64 = 1_700_000_000_000;

fn config(server: &InProcessQdrant) -> QdrantConfig {
    QdrantConfig {
        url: server.url(),
        api_key: None,
        collection: "stiver_semantic".to_owned(),
        timeout: Duration::from_secs(5),
    }
}

fn qdrant(server: &InProcessQdrant) -> QdrantIndex {
    QdrantIndex::open(&config(server)).unwrap()
}

fn scan() -> ScanIndex {
    ScanIndex::open(&ScanConfig { max_entries: 1_000, max_bytes: 1 << 20, dir: None }, NOW_MS)
}

fn scope(n: u8) -> Fingerprint {
    Fingerprint::new([n; 32])
}

fn id(n: u8) -> EntryId {
    EntryId::of(Fingerprint::new([n; 32]))
}

/// Its cosine to the x axis is that of `angle`.
fn entry(n: u8, in_scope: u8, angle: f32) -> IndexEntry {
    IndexEntry {
        id: id(n),
        group: id(n).own_group(),
        worth: NanoUsd::ZERO,
        scope: scope(in_scope),
        vector: vec![angle.cos(), angle.sin()].into(),
        text: format!("question {n} \u{e9}").into(),
        answer: Bytes::from(format!("{{\"n\":{n}}}")),
        expires_at_ms: NOW_MS + 1_000,
    }
}

async fn near(index: &dyn Index, in_scope: u8, k: usize, min_similarity: f32) -> Vec<Neighbour> {
    let scope = scope(in_scope);
    let wanted = Wanted { scope: &scope, vector: &[1.0, 0.0], k, min_similarity, now_ms: NOW_MS };
    index.nearest(wanted).await.unwrap()
}

fn ids(near: &[Neighbour]) -> Vec<EntryId> {
    near.iter().map(|neighbour| neighbour.id).collect()
}

async fn an_empty_index_finds_nothing_and_counts_nought(index: &dyn Index) {
    assert_eq!(index.count().await.unwrap(), 0);
    assert_eq!(near(index, 1, 3, 0.0).await, []);
    index.remove(id(1)).await.unwrap();
    index.purge().await.unwrap();
    index.readiness().await.unwrap();
}

async fn the_nearest_of_the_scope_come_first_and_no_more_than_asked_for(index: &dyn Index) {
    for (n, angle) in [(1, 0.3), (2, 0.1), (3, 0.2)] {
        index.upsert(entry(n, 1, angle), NOW_MS).await.unwrap();
    }
    index.upsert(entry(4, 2, 0.0), NOW_MS).await.unwrap();

    let found = near(index, 1, 2, 0.0).await;

    assert_eq!(ids(&found), [id(2), id(3)]);
    assert!((found[0].similarity - 0.1_f32.cos()).abs() < 1e-5);
    assert_eq!((&*found[0].text, found[0].group), ("question 2 \u{e9}", id(2).own_group()));
    assert_eq!(index.answer(id(2)).await.unwrap().unwrap(), &b"{\"n\":2}"[..]);
    assert_eq!(index.answer(id(9)).await.unwrap(), None);
    assert_eq!(ids(&near(index, 2, 9, 0.0).await), [id(4)]);
    assert_eq!(index.count().await.unwrap(), 4);
}

async fn what_is_less_alike_than_asked_for_is_not_found(index: &dyn Index) {
    index.upsert(entry(1, 1, 0.3), NOW_MS).await.unwrap();
    let similarity = 0.3_f32.cos();

    assert_eq!(near(index, 1, 9, similarity - 1e-4).await.len(), 1);
    assert_eq!(near(index, 1, 9, similarity + 1e-4).await.len(), 0);
}

async fn an_entry_is_found_until_its_last_millisecond(index: &dyn Index) {
    index.upsert(entry(1, 1, 0.0), NOW_MS).await.unwrap();
    let scope = scope(1);
    let at = |now_ms| Wanted { scope: &scope, vector: &[1.0, 0.0], k: 1, min_similarity: 0.0, now_ms };

    assert_eq!(index.nearest(at(NOW_MS + 999)).await.unwrap().len(), 1);
    assert_eq!(index.nearest(at(NOW_MS + 1_000)).await.unwrap().len(), 0);
}

async fn an_entry_with_a_known_id_replaces_the_old_one(index: &dyn Index) {
    index.upsert(entry(1, 1, 0.0), NOW_MS).await.unwrap();
    let newer = IndexEntry { answer: Bytes::from_static(b"newer"), ..entry(1, 1, 0.1) };

    index.upsert(newer, NOW_MS).await.unwrap();

    let found = near(index, 1, 9, 0.0).await;
    assert_eq!((found.len(), index.answer(id(1)).await.unwrap().unwrap()), (1, Bytes::from_static(b"newer")));
    assert_eq!(index.count().await.unwrap(), 1);
}

async fn neighbours_tell_the_group_they_were_last_put_in(index: &dyn Index) {
    let grouped = |group| IndexEntry { group: GroupKey(group), ..entry(1, 1, 0.0) };
    // Also one that has no place among numbers with a sign.
    for group in [u64::MAX, 7] {
        index.upsert(grouped(group), NOW_MS).await.unwrap();

        let groups: Vec<GroupKey> = near(index, 1, 9, 0.0).await.iter().map(|near| near.group).collect();
        assert_eq!(groups, [GroupKey(group)]);
    }
}

async fn a_use_changes_nothing_that_is_found(index: &dyn Index) {
    index.upsert(entry(1, 1, 0.0), NOW_MS).await.unwrap();
    let before = near(index, 1, 9, 0.0).await;

    index.touch(id(1));
    index.touch(id(9));

    assert_eq!(near(index, 1, 9, 0.0).await, before);
    assert_eq!(index.answer(id(1)).await.unwrap().unwrap(), &b"{\"n\":1}"[..]);
    assert_eq!(index.count().await.unwrap(), 1);
}

async fn an_answer_is_there_until_it_is_removed(index: &dyn Index) {
    assert_eq!(index.answer(id(1)).await.unwrap(), None);
    index.upsert(entry(1, 1, 0.0), NOW_MS).await.unwrap();
    index.upsert(entry(2, 2, 0.0), NOW_MS).await.unwrap();

    index.remove(id(1)).await.unwrap();

    assert_eq!(index.answer(id(1)).await.unwrap(), None);
    assert_eq!(index.answer(id(2)).await.unwrap().unwrap(), &b"{\"n\":2}"[..]);
}

async fn what_is_removed_is_gone_and_a_purge_leaves_nothing(index: &dyn Index) {
    index.upsert(entry(1, 1, 0.0), NOW_MS).await.unwrap();
    index.upsert(entry(2, 1, 0.1), NOW_MS).await.unwrap();

    assert_eq!(index.remove(id(1)).await.unwrap(), 1);
    assert_eq!(index.remove(id(1)).await.unwrap(), 0);
    assert_eq!(ids(&near(index, 1, 9, 0.0).await), [id(2)]);

    assert_eq!(index.purge().await.unwrap(), 1);
    assert_eq!(index.count().await.unwrap(), 0);
    index.upsert(entry(3, 1, 0.0), NOW_MS).await.unwrap();
    assert_eq!(ids(&near(index, 1, 9, 0.0).await), [id(3)]);
}

async fn what_has_the_marks_is_purged_and_the_rest_stays(index: &dyn Index) {
    for (n, team, model) in [(1, "search", "small"), (2, "search", "large"), (3, "batch", "small")] {
        let origin = Origin {
            call: CallId::new(NOW_MS, [n; 10]),
            team: TeamName::from(team),
            route: RouteName::from("auto"),
        };
        let answer = StoredAnswer {
            body: Bytes::from_static(b"{}"),
            model: model.to_owned(),
            upstream: "house".to_owned(),
            usage: Usage::default(),
            cost: None,
            stored_at_ms: NOW_MS,
            origin: Some(origin),
        };
        index.upsert(IndexEntry { answer: answer.encode(), ..entry(n, 1, 0.0) }, NOW_MS).await.unwrap();
    }
    index.upsert(entry(4, 1, 0.0), NOW_MS).await.unwrap();
    let search = Chosen { team: Some(TeamName::from("search")), ..Chosen::default() };
    let small = Some("small".to_owned());
    let call = Some(CallId::new(NOW_MS, [3; 10]));

    assert_eq!(index.purge_where(&Chosen::default()).await.unwrap(), 0);
    assert_eq!(index.purge_where(&Chosen { model: small, ..search.clone() }).await.unwrap(), 1);
    assert_eq!(index.count().await.unwrap(), 3);
    assert_eq!(index.purge_where(&search).await.unwrap(), 1);
    assert_eq!(index.purge_where(&Chosen { call, ..Chosen::default() }).await.unwrap(), 1);
    assert_eq!(ids(&near(index, 1, 9, 0.0).await), [id(4)], "what says nothing of itself stays");
}

async fn vectors_of_other_dimensions_are_refused_in_plain_words(index: &dyn Index) {
    index.upsert(entry(1, 1, 0.0), NOW_MS).await.unwrap();
    let other = IndexEntry { vector: vec![1.0, 0.0, 0.0].into(), ..entry(2, 1, 0.0) };

    let error = index.upsert(other, NOW_MS).await.unwrap_err();

    assert!(matches!(error, IndexError::Dimension { expected: 2, given: 3, .. }), "{error}");
    assert!(
        error.to_string().contains("has 2 dimensions") || error.to_string().contains("have 2 dimensions")
    );
    assert_eq!(index.count().await.unwrap(), 1);
}

macro_rules! contract {
    ($($clause:ident)*) => {
        mod scan_holds_that {
            $(#[tokio::test] async fn $clause() { super::$clause(&super::scan()).await; })*
        }
        mod qdrant_holds_that {
            $(#[tokio::test] async fn $clause() {
                let server = super::InProcessQdrant::start();
                super::$clause(&super::qdrant(&server)).await;
            })*
        }
    };
}

contract! {
    an_empty_index_finds_nothing_and_counts_nought
    the_nearest_of_the_scope_come_first_and_no_more_than_asked_for
    what_is_less_alike_than_asked_for_is_not_found
    an_entry_is_found_until_its_last_millisecond
    an_entry_with_a_known_id_replaces_the_old_one
    neighbours_tell_the_group_they_were_last_put_in
    a_use_changes_nothing_that_is_found
    an_answer_is_there_until_it_is_removed
    what_is_removed_is_gone_and_a_purge_leaves_nothing
    what_has_the_marks_is_purged_and_the_rest_stays
    vectors_of_other_dimensions_are_refused_in_plain_words
}

#[tokio::test]
async fn the_collection_is_made_once_with_its_payload_indexes() {
    let server = InProcessQdrant::start();
    let (one, other) = (Arc::new(qdrant(&server)), qdrant(&server));

    let upserts = (0..8).map(|n| one.upsert(entry(n, 1, 0.0), NOW_MS));
    let outcomes = futures_util::future::join_all(upserts).await;
    other.upsert(entry(9, 1, 0.0), NOW_MS).await.unwrap();

    assert!(outcomes.iter().all(Result::is_ok));
    let shelves = server.shelves.lock();
    let collection = &shelves["stiver_semantic"];
    assert_eq!((collection.n_dims, collection.points.len()), (2, 9));
    assert!(collection.indexed_fields.contains("scope"));
}

#[tokio::test]
async fn a_collection_of_other_dimensions_is_named_with_the_remedy() {
    let server = InProcessQdrant::start();
    qdrant(&server).upsert(entry(1, 1, 0.0), NOW_MS).await.unwrap();
    let scope = scope(1);
    let wanted = Wanted { scope: &scope, vector: &[1.0; 3], k: 1, min_similarity: 0.0, now_ms: NOW_MS };

    let error = qdrant(&server).nearest(wanted).await.unwrap_err().to_string();

    assert!(error.contains("qdrant collection stiver_semantic") && error.contains("purge"), "{error}");
}

#[tokio::test]
async fn a_collection_deleted_meanwhile_is_made_anew() {
    let server = InProcessQdrant::start();
    let index = qdrant(&server);
    index.upsert(entry(1, 1, 0.0), NOW_MS).await.unwrap();

    server.shelves.lock().clear();

    assert!(index.upsert(entry(2, 1, 0.0), NOW_MS).await.is_err());
    index.upsert(entry(2, 1, 0.0), NOW_MS).await.unwrap();
    assert_eq!(ids(&near(&index, 1, 9, 0.0).await), [id(2)]);
}

#[tokio::test]
async fn expired_points_are_swept_when_others_come() {
    let server = InProcessQdrant::start();
    let index = qdrant(&server);
    index.upsert(entry(1, 1, 0.0), NOW_MS).await.unwrap();
    let later = IndexEntry { expires_at_ms: NOW_MS + 9_000, ..entry(2, 1, 0.0) };

    qdrant(&server).upsert(later, NOW_MS + 1_000).await.unwrap();

    assert_eq!(index.count().await.unwrap(), 1);
}

#[tokio::test]
async fn group_and_worth_stand_beside_the_answer_and_earlier_points_lack_both() {
    let server = InProcessQdrant::start();
    let index = qdrant(&server);
    let dear = IndexEntry { group: GroupKey(u64::MAX), worth: NanoUsd::new(5_600), ..entry(1, 1, 0.0) };
    index.upsert(dear, NOW_MS).await.unwrap();

    for point in server.shelves.lock().get_mut("stiver_semantic").unwrap().points.values_mut() {
        let (group, worth) = (point.payload.remove("group").unwrap(), point.payload.remove("worth").unwrap());
        assert_eq!(
            (group.as_str().unwrap().as_str(), worth.as_integer()),
            ("18446744073709551615", Some(5_600))
        );
    }

    assert_eq!(near(&index, 1, 9, 0.0).await[0].group, id(1).own_group());
}

#[tokio::test]
async fn the_key_is_sent_and_a_wrong_one_is_an_error() {
    let server = InProcessQdrant::requiring(Some("secret"));
    let right = QdrantConfig { api_key: Some("secret".into()), ..config(&server) };
    let wrong = QdrantConfig { api_key: Some("guess".into()), ..config(&server) };

    QdrantIndex::open(&right).unwrap().upsert(entry(1, 1, 0.0), NOW_MS).await.unwrap();
    let error = QdrantIndex::open(&wrong).unwrap().readiness().await.unwrap_err();

    assert!(error.to_string().contains("qdrant_url"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_error_that_names_the_setting() {
    let mut server = InProcessQdrant::start();
    let index = qdrant(&server);
    index.upsert(entry(1, 1, 0.0), NOW_MS).await.unwrap();

    server.kill();

    let error = index.count().await.unwrap_err().to_string();
    assert!(error.contains("qdrant_url"), "{error}");
    assert!(index.readiness().await.is_err());
}
