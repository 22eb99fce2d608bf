//! The scan index against a plain list, and against its own file.

use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::shelf::held_bytes;
use super::*;
use crate::chat::Fingerprint;
use crate::money::NanoUsd;

const PLENTY: u64 = 1 << 30;

fn config(max_entries: usize, dir: Option<&Path>) -> ScanConfig {
    ScanConfig { max_entries, max_bytes: PLENTY, dir: dir.map(Path::to_owned) }
}

fn scope(n: u8) -> Fingerprint {
    Fingerprint::new([n; 32])
}

fn entry(id: u8, in_scope: u8, angle: f32) -> IndexEntry {
    let name = EntryId::of(Fingerprint::new([id; 32]));
    IndexEntry {
        id: name,
        group: name.own_group(),
        worth: NanoUsd::ZERO,
        scope: scope(in_scope),
        vector: vec![angle.cos(), angle.sin()].into(),
        text: format!("question {id}").into(),
        answer: Bytes::from(vec![id; 8]),
        expires_at_ms: 1_000,
    }
}

fn wanted<'a>(scope: &'a Fingerprint, vector: &'a [f32]) -> Wanted<'a> {
    Wanted { scope, vector, k: 3, min_similarity: -1.0, now_ms: 0 }
}

async fn all_near(index: &ScanIndex, in_scope: u8) -> Vec<Neighbour> {
    let scope = scope(in_scope);
    index.nearest(Wanted { k: 100, ..wanted(&scope, &[1.0, 0.0]) }).await.unwrap()
}

#[derive(Debug, Clone)]
enum Op {
    Upsert { id: u8, in_scope: u8, angle: f32, expires_at_ms: i64 },
    Remove { id: u8 },
    Purge,
    Nearest { in_scope: u8, angle: f32, k: usize, min_similarity: f32, now_ms: i64 },
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0u8..9, 0u8..3, 0.0f32..6.3, 1_000i64..2_000)
            .prop_map(|(id, in_scope, angle, expires_at_ms)| Op::Upsert { id, in_scope, angle, expires_at_ms }),
        1 => (0u8..9).prop_map(|id| Op::Remove { id }),
        1 => Just(Op::Purge),
        4 => (0u8..3, 0.0f32..6.3, 1usize..5, -1.0f32..1.0, 900i64..2_100)
            .prop_map(|(in_scope, angle, k, min_similarity, now_ms)| Op::Nearest { in_scope, angle, k, min_similarity, now_ms }),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..40)
}

/// The same, said plainly: a list in the order of age. All have the same size, no worth and no use, so
/// the oldest has the lowest priority.
#[derive(Default)]
struct Oracle(Vec<IndexEntry>);

impl Oracle {
    fn upsert(&mut self, entry: IndexEntry, max_entries: usize) {
        self.0.retain(|other| other.id != entry.id);
        if self.0.len() == max_entries {
            self.0.remove(0);
        }
        self.0.push(entry);
    }

    fn nearest(&self, wanted: &Wanted<'_>) -> Vec<(EntryId, f32)> {
        let mut near: Vec<(EntryId, f32)> = self
            .0
            .iter()
            .filter(|entry| entry.scope == *wanted.scope && entry.expires_at_ms > wanted.now_ms)
            .map(|entry| (entry.id, entry.vector.iter().zip(wanted.vector).map(|(a, b)| a * b).sum::<f32>()))
            .filter(|(_, similarity)| *similarity >= wanted.min_similarity)
            .collect();
        near.sort_by(|a, b| b.1.total_cmp(&a.1));
        near.truncate(wanted.k);
        near
    }
}

/// Runs the operations against both and compares what they find.
async fn agree(ops: Vec<Op>, max_entries: usize, dir: &Path) -> Result<(), TestCaseError> {
    let mut index = ScanIndex::open(&config(max_entries, Some(dir)), 0);
    let mut oracle = Oracle::default();
    for op in ops {
        match op {
            Op::Upsert { id, in_scope, angle, expires_at_ms } => {
                let entry = IndexEntry { expires_at_ms, ..entry(id, in_scope, angle) };
                index.upsert(entry.clone(), 0).await.unwrap();
                oracle.upsert(entry, max_entries);
            }
            Op::Remove { id } => {
                let id = entry(id, 0, 0.0).id;
                index.remove(id).await.unwrap();
                oracle.0.retain(|other| other.id != id);
            }
            Op::Purge => {
                index.purge().await.unwrap();
                oracle.0.clear();
            }
            Op::Nearest { in_scope, angle, k, min_similarity, now_ms } => {
                let (scope, vector) = (scope(in_scope), [angle.cos(), angle.sin()]);
                let wanted = Wanted { scope: &scope, vector: &vector, k, min_similarity, now_ms };
                let found = index.nearest(wanted).await.unwrap();
                let expected = oracle.nearest(&wanted);
                prop_assert_eq!(found.len(), expected.len());
                for (found, (_, similarity)) in found.iter().zip(&expected) {
                    prop_assert!((found.similarity - similarity).abs() < 1e-5);
                }
            }
            Op::Reopen => index = ScanIndex::open(&config(max_entries, Some(dir)), 0),
        }
        prop_assert_eq!(index.count().await.unwrap(), oracle.0.len() as u64);
        prop_assert_eq!(index.size_bytes().unwrap(), oracle.0.iter().map(held_bytes).sum::<u64>());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn it_finds_what_a_plain_list_finds_across_restarts(ops in ops(), max_entries in 1usize..8) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(agree(ops, max_entries, dir.path()))?;
    }
}

#[tokio::test]
async fn many_dimensions_are_summed_like_few() {
    let index = ScanIndex::open(&config(10, None), 0);
    let vector: Vec<f32> = (0..387_u16).map(|n| f32::from(n % 7) - 3.0).collect();
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    let vector: Arc<[f32]> = vector.iter().map(|value| value / length).collect();
    let other = IndexEntry { vector: Arc::clone(&vector), ..entry(1, 1, 0.0) };
    index.upsert(other, 0).await.unwrap();

    let found = index.nearest(wanted(&scope(1), &vector)).await.unwrap();

    assert!((found[0].similarity - 1.0).abs() < 1e-5);
}

fn texts(near: &[Neighbour]) -> Vec<&str> {
    near.iter().map(|near| &*near.text).collect()
}

#[tokio::test]
async fn of_entries_alike_the_oldest_go_when_the_bytes_are_used_up() {
    let each = held_bytes(&entry(1, 1, 0.0));
    for (max_bytes, expected) in [
        (3 * each, vec!["question 2", "question 3", "question 4"]),
        (3 * each - 1, vec!["question 3", "question 4"]),
        (4 * each, vec!["question 1", "question 2", "question 3", "question 4"]),
        (each, vec!["question 4"]),
        (each - 1, vec![]),
    ] {
        let index = ScanIndex::open(&ScanConfig { max_entries: 100, max_bytes, dir: None }, 0);

        for id in 1..=4 {
            index.upsert(entry(id, 1, 0.1 * f32::from(id)), 0).await.unwrap();
            assert!(index.size_bytes().unwrap() <= max_bytes);
        }

        assert_eq!(texts(&all_near(&index, 1).await), expected, "{max_bytes} bytes");
    }
}

#[tokio::test]
async fn the_cheap_and_large_goes_before_the_dear_and_used() {
    let index = ScanIndex::open(&config(2, None), 0);
    let dear = IndexEntry { worth: NanoUsd::new(9_000_000), ..entry(1, 1, 0.1) };
    let large = |id| IndexEntry { answer: Bytes::from(vec![0; 9_000]), ..entry(id, 1, 0.2) };
    index.upsert(dear, 0).await.unwrap();
    index.upsert(large(2), 0).await.unwrap();

    index.upsert(large(3), 0).await.unwrap();
    index.touch(entry(3, 1, 0.0).id);
    index.upsert(large(4), 0).await.unwrap();

    assert_eq!(texts(&all_near(&index, 1).await), ["question 1", "question 4"]);
}

#[tokio::test]
async fn of_entries_alike_the_used_stays_also_when_its_answer_was_replaced() {
    let index = ScanIndex::open(&config(2, None), 0);
    for id in 1..=2 {
        index.upsert(entry(id, 1, 0.1 * f32::from(id)), 0).await.unwrap();
    }
    index.touch(entry(1, 1, 0.0).id);
    index.upsert(IndexEntry { answer: Bytes::from_static(b"newer"), ..entry(1, 1, 0.1) }, 0).await.unwrap();
    index.upsert(entry(2, 1, 0.2), 0).await.unwrap();

    index.upsert(entry(3, 1, 0.3), 0).await.unwrap();

    assert_eq!(texts(&all_near(&index, 1).await), ["question 1", "question 3"]);
}

#[tokio::test]
async fn what_does_not_fit_at_all_drives_nobody_out() {
    let index = ScanIndex::open(&ScanConfig { max_entries: 100, max_bytes: 5_000, dir: None }, 0);
    index.upsert(entry(1, 1, 0.1), 0).await.unwrap();
    index.upsert(entry(2, 1, 0.2), 0).await.unwrap();
    let large = |id| IndexEntry { answer: Bytes::from(vec![id; 5_000]), ..entry(id, 1, 0.3) };

    index.upsert(large(3), 0).await.unwrap();
    index.upsert(large(2), 0).await.unwrap();

    assert_eq!(texts(&all_near(&index, 1).await), ["question 1"], "and no stale answer stays");
}

/// Worth, size, uses and life at random.
fn various() -> impl Strategy<Value = Vec<(u8, i64, usize, u8, i64)>> {
    prop::collection::vec((0u8..40, -5i64..5_000_000, 0usize..3_000, 0u8..4, 1i64..60), 1..120)
}

async fn bounded(entries: Vec<(u8, i64, usize, u8, i64)>, config: ScanConfig) -> Result<(), TestCaseError> {
    let index = ScanIndex::open(&config, 0);
    for (now_ms, (id, worth, n_bytes, n_uses, life_ms)) in (0..).zip(entries) {
        let entry = IndexEntry {
            worth: NanoUsd::new(worth),
            answer: Bytes::from(vec![id; n_bytes]),
            expires_at_ms: now_ms + life_ms,
            ..entry(id, id % 3, f32::from(id))
        };
        let fits = held_bytes(&entry) <= config.max_bytes && config.max_entries > 0;
        let name = entry.id;

        index.upsert(entry, now_ms).await.unwrap();
        (0..n_uses).for_each(|_| index.touch(name));

        prop_assert!(index.count().await.unwrap() <= config.max_entries as u64);
        prop_assert!(index.size_bytes().unwrap() <= config.max_bytes);
        prop_assert_eq!(index.answer(name).await.unwrap().is_some(), fits, "a newcomer that fits is kept");
    }
    // No later than the last change, so that nothing is dropped for its age.
    let again = ScanIndex::open(&config, 0);
    for in_scope in 0..3 {
        prop_assert_eq!(all_near(&again, in_scope).await, all_near(&index, in_scope).await);
    }
    prop_assert_eq!(again.size_bytes(), index.size_bytes());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn the_bounds_hold_whatever_comes_and_the_file_says_what_went(
        entries in various(),
        (max_entries, max_bytes) in (0usize..12, 0u64..12_000),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let config = ScanConfig { max_entries, max_bytes, dir: Some(dir.path().to_owned()) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(bounded(entries, config))?;
    }
}

#[tokio::test]
async fn narrower_bounds_hold_when_the_file_is_opened_and_stay_so() {
    let dir = tempfile::tempdir().unwrap();
    let wide = ScanIndex::open(&config(10, Some(dir.path())), 0);
    for id in 1..=6 {
        wide.upsert(IndexEntry { worth: NanoUsd::new(9_000_000 * i64::from(id)), ..entry(id, 1, 0.1) }, 0)
            .await
            .unwrap();
    }
    drop(wide);

    let narrow = ScanIndex::open(&config(2, Some(dir.path())), 0);
    let kept = all_near(&narrow, 1).await;
    assert_eq!(kept.len(), 2);
    drop(narrow);

    let wide = ScanIndex::open(&config(10, Some(dir.path())), 0);
    assert_eq!(all_near(&wide, 1).await, kept);
}

#[tokio::test]
async fn a_large_scope_is_compared_off_the_async_threads_and_finds_the_same() {
    let index = ScanIndex::open(&ScanConfig { max_entries: 100, max_bytes: PLENTY, dir: None }, 0);
    let n_dims = INLINE_SCAN_BYTES / 8;
    let unit = |at: usize| -> Arc<[f32]> { (0..n_dims).map(|idx| f32::from(u8::from(idx == at))).collect() };
    for id in 0..9 {
        let entry = IndexEntry { vector: unit(usize::from(id)), ..entry(id, 1, 0.0) };
        index.upsert(entry, 0).await.unwrap();
    }
    assert!(index.0.shelf.read().scan_bytes(&scope(1)) > INLINE_SCAN_BYTES);

    let vector = unit(4);
    let found = index.nearest(Wanted { k: 1, ..wanted(&scope(1), &vector) }).await.unwrap();

    assert_eq!((texts(&found), found[0].similarity), (vec!["question 4"], 1.0));
}

#[tokio::test]
async fn the_expired_make_room_when_another_comes() {
    let index = ScanIndex::open(&config(100, None), 0);
    index.upsert(entry(1, 1, 0.0), 0).await.unwrap();

    index.upsert(IndexEntry { expires_at_ms: 5_000, ..entry(2, 1, 0.1) }, 1_000).await.unwrap();

    assert_eq!(index.count().await.unwrap(), 1);
}

#[tokio::test]
async fn the_file_stays_within_a_multiple_of_what_is_alive() {
    let dir = tempfile::tempdir().unwrap();
    let index = ScanIndex::open(&config(100, Some(dir.path())), 0);
    let large = |id| IndexEntry { answer: Bytes::from(vec![id; 100_000]), ..entry(id, 1, f32::from(id)) };

    for n in 0..60 {
        index.upsert(large(n % 3), 0).await.unwrap();
        let file_bytes = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
        assert!(file_bytes <= 2 * index.0.shelf.read().file_bytes() + DEAD_SLACK_BYTES);
    }

    let again = ScanIndex::open(&config(100, Some(dir.path())), 0);
    assert_eq!(again.count().await.unwrap(), 3);
    assert_eq!(all_near(&again, 1).await, all_near(&index, 1).await);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_leaves_an_index_that_works_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, "in the way").unwrap();
    let index = ScanIndex::open(&config(10, Some(&blocked)), 0);

    index.upsert(entry(1, 1, 0.0), 0).await.unwrap();

    assert_eq!(all_near(&index, 1).await.len(), 1);
    let problem = index.readiness().await.unwrap_err().to_string();
    assert!(problem.contains("semantic.log") && problem.contains("restart"), "{problem}");
}

#[tokio::test]
async fn vectors_of_other_dimensions_are_refused() {
    let index = ScanIndex::open(&config(10, None), 0);
    index.upsert(entry(1, 1, 0.0), 0).await.unwrap();

    let other = IndexEntry { vector: vec![1.0, 0.0, 0.0].into(), ..entry(2, 1, 0.0) };
    let none = IndexEntry { vector: Arc::from([]), ..entry(3, 2, 0.0) };

    let problem = index.upsert(other, 0).await.unwrap_err().to_string();
    assert!(problem.contains("2 dimensions") && problem.contains("makes 3"), "{problem}");
    assert!(index.upsert(none, 0).await.is_err());
    assert!(index.nearest(wanted(&scope(1), &[1.0])).await.is_err());
    assert_eq!(index.count().await.unwrap(), 1);
}
