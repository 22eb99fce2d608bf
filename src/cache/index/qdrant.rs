//! The semantic index of many replicas: one collection in Qdrant, over gRPC.
//!
//! Does not bound the collection, neither by entries nor by bytes, and does not hear of uses; expired
//! points are deleted now and then. Connects on first use, so that a gateway starts without it.
//!
//! Invariants: a scope is a filter on an indexed keyword, and the scope and fingerprint that come
//! back are checked again; a collection of other dimensions is never written to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use qdrant_client::qdrant::{
    Condition, CountPointsBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder,
    DeletePointsBuilder, Distance, FieldType, Filter, GetPointsBuilder, PayloadIncludeSelector, PointId,
    PointStruct, PointsIdsList, QueryPointsBuilder, Range, ScoredPoint, UpsertPointsBuilder, Value,
    VectorParamsBuilder, vectors_config,
};
use qdrant_client::{Qdrant, QdrantError};
use secrecy::{ExposeSecret, SecretString};

use super::{EntryId, Index, IndexEntry, IndexError, Neighbour, Wanted};
use crate::cache::answer::StoredAnswer;
use crate::cache::purge::Chosen;
use crate::cache::risk::GroupKey;

/// Upserts between two sweeps of expired points.
const SWEEP_EVERY: u64 = 256;

const SCOPE: &str = "scope";
const QUESTION: &str = "question";
const TEXT: &str = "text";
const ANSWER: &str = "answer";
const EXPIRES: &str = "expires_at_ms";
/// Digits, because Qdrant's integers have a sign; points of earlier versions lack it, and the worth.
const GROUP: &str = "group";
/// Nano-dollars. Kept for whoever moves entries or clears the collection by it; not read here.
const WORTH: &str = "worth";
/// What a purge chooses by; points of earlier versions lack all but the model.
const TEAM: &str = "team";
const ROUTE: &str = "route";
const MODEL: &str = "model";
const CALL: &str = "call";

/// How to reach Qdrant.
#[derive(Debug, Clone)]
pub struct QdrantConfig {
    pub url: String,
    pub api_key: Option<SecretString>,
    pub collection: String,
    pub timeout: Duration,
}

pub struct QdrantIndex {
    client: Qdrant,
    collection: String,
    /// Dimensions of the collection, once it is known to be there.
    n_dims: Mutex<Option<usize>>,
    /// Held while the collection is made, so that it is made once.
    making: tokio::sync::Mutex<()>,
    n_upserts: AtomicU64,
}

impl QdrantIndex {
    /// Checks the address; the connection follows with the first request.
    pub fn open(config: &QdrantConfig) -> Result<Self, IndexError> {
        let mut qdrant = Qdrant::from_url(&config.url)
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            // It would block here, and print.
            .skip_compatibility_check();
        if let Some(key) = &config.api_key {
            qdrant = qdrant.api_key(key.expose_secret());
        }
        Ok(Self {
            client: qdrant.build().map_err(Box::new)?,
            collection: config.collection.clone(),
            n_dims: Mutex::new(None),
            making: tokio::sync::Mutex::new(()),
            n_upserts: AtomicU64::new(0),
        })
    }

    /// Makes the collection when it is not there, and refuses one of other dimensions.
    async fn ensure(&self, given: usize) -> Result<(), IndexError> {
        let known = *self.n_dims.lock();
        let expected = match known {
            Some(n_dims) => n_dims,
            None => self.make(given).await?,
        };
        if expected == given {
            return Ok(());
        }
        let index = format!("qdrant collection {}", self.collection);
        Err(IndexError::Dimension { index, expected, given })
    }

    async fn make(&self, given: usize) -> Result<usize, IndexError> {
        let _alone = self.making.lock().await;
        if let Some(n_dims) = *self.n_dims.lock() {
            return Ok(n_dims);
        }
        if !self.client.collection_exists(self.collection.as_str()).await.map_err(Box::new)? {
            self.create(given).await?;
        }
        let n_dims = self.read_dims().await?;
        *self.n_dims.lock() = Some(n_dims);
        Ok(n_dims)
    }

    async fn create(&self, n_dims: usize) -> Result<(), IndexError> {
        let vectors = VectorParamsBuilder::new(n_dims as u64, Distance::Cosine);
        let collection = CreateCollectionBuilder::new(self.collection.as_str()).vectors_config(vectors);
        match self.client.create_collection(collection).await {
            Ok(_) => {}
            // Another replica was faster.
            Err(QdrantError::ResponseError { status }) if status.message().contains("already exists") => {}
            Err(error) => return Err(Box::new(error).into()),
        }
        for (field, field_type) in [(SCOPE, FieldType::Keyword), (EXPIRES, FieldType::Integer)] {
            let index = CreateFieldIndexCollectionBuilder::new(self.collection.as_str(), field, field_type);
            self.client.create_field_index(index.wait(true)).await.map_err(Box::new)?;
        }
        Ok(())
    }

    async fn read_dims(&self) -> Result<usize, IndexError> {
        let info = self.client.collection_info(self.collection.as_str()).await.map_err(Box::new)?;
        let config = info
            .result
            .and_then(|info| info.config?.params?.vectors_config?.config)
            .ok_or_else(|| self.foreign())?;
        match config {
            vectors_config::Config::Params(params) => Ok(usize::try_from(params.size).unwrap_or(usize::MAX)),
            vectors_config::Config::ParamsMap(_) => Err(self.foreign()),
        }
    }

    fn foreign(&self) -> IndexError {
        IndexError::ForeignPoint { collection: self.collection.clone() }
    }

    /// Whoever deleted the collection meant it to be made anew.
    fn outcome<T>(&self, outcome: Result<T, QdrantError>) -> Result<T, IndexError> {
        outcome.map_err(|error| {
            if is_not_found(&error) {
                *self.n_dims.lock() = None;
            }
            Box::new(error).into()
        })
    }

    async fn write(&self, entry: IndexEntry, now_ms: i64) -> Result<(), IndexError> {
        self.ensure(entry.vector.len()).await?;
        let vector = entry.vector.to_vec();
        let point = PointStruct::new(point_id(entry.id), vector, payload(entry)?);
        let upsert = UpsertPointsBuilder::new(self.collection.as_str(), vec![point]).wait(true);
        self.outcome(self.client.upsert_points(upsert).await)?;
        let n_before = self.n_upserts.fetch_add(1, Ordering::Relaxed);
        if n_before.is_multiple_of(SWEEP_EVERY) {
            let expired = Condition::range(EXPIRES, Range { lte: Some(now_ms as f64), ..Range::default() });
            self.delete(Filter::must([expired])).await?;
        }
        Ok(())
    }

    async fn delete(&self, filter: Filter) -> Result<(), IndexError> {
        let delete = DeletePointsBuilder::new(self.collection.as_str()).points(filter).wait(true);
        unless_absent(self.outcome(self.client.delete_points(delete).await)).map(|_| ())
    }

    /// How many points pass; none where there is no collection.
    async fn n_points(&self, filter: Filter) -> Result<u64, IndexError> {
        let count = CountPointsBuilder::new(self.collection.as_str()).filter(filter).exact(true);
        let counted = unless_absent(self.outcome(self.client.count(count).await))?;
        Ok(counted.and_then(|response| response.result).map_or(0, |result| result.count))
    }

    /// Deletes what passes, and tells how many there were.
    async fn purge_by(&self, filter: Filter) -> Result<u64, IndexError> {
        let n_points = self.n_points(filter.clone()).await?;
        if n_points > 0 {
            self.delete(filter).await?;
        }
        Ok(n_points)
    }

    async fn query(&self, wanted: &Wanted<'_>) -> Result<Vec<Neighbour>, IndexError> {
        self.ensure(wanted.vector.len()).await?;
        let filter = Filter::must([
            Condition::matches(SCOPE, wanted.scope.to_hex()),
            Condition::range(EXPIRES, Range { gt: Some(wanted.now_ms as f64), ..Range::default() }),
        ]);
        let query = QueryPointsBuilder::new(self.collection.as_str())
            .query(wanted.vector.to_vec())
            .filter(filter)
            .score_threshold(wanted.min_similarity)
            .limit(wanted.k as u64)
            .with_payload(PayloadIncludeSelector {
                fields: [SCOPE, QUESTION, TEXT, GROUP].map(str::to_owned).to_vec(),
            });
        let found = self.outcome(self.client.query(query).await)?;
        let scope = wanted.scope.to_hex();
        found.result.into_iter().map(|point| self.neighbour(point, &scope)).collect()
    }

    async fn read_answer(&self, id: EntryId) -> Result<Option<Bytes>, IndexError> {
        let ids = vec![PointId::from(point_id(id))];
        let fields = [QUESTION, ANSWER].map(str::to_owned).to_vec();
        let wanted = GetPointsBuilder::new(self.collection.as_str(), ids)
            .with_payload(PayloadIncludeSelector { fields });
        let found = unless_absent(self.outcome(self.client.get_points(wanted).await))?;
        let Some(mut point) = found.and_then(|found| found.result.into_iter().next()) else {
            return Ok(None);
        };
        let mut text = |key: &str| text_of(point.payload.remove(key)?);
        let (question, answer) = (text(QUESTION), text(ANSWER));
        // Half of a fingerprint names the point; another entry may have the same half.
        Ok(answer.filter(|_| question.is_some_and(|question| question == id.to_string())).map(Bytes::from))
    }

    fn neighbour(&self, mut point: ScoredPoint, scope: &str) -> Result<Neighbour, IndexError> {
        let mut text = |key: &str| text_of(point.payload.remove(key)?);
        let read = (text(SCOPE), text(QUESTION), text(TEXT));
        let (Some(found_scope), Some(question), Some(text)) = read else {
            return Err(self.foreign());
        };
        let id = EntryId::parse(&question).filter(|_| found_scope == scope).ok_or_else(|| self.foreign())?;
        let group = point.payload.remove(GROUP).and_then(text_of).and_then(|digits| digits.parse().ok());
        let group = group.map_or_else(|| id.own_group(), GroupKey);
        Ok(Neighbour { id, similarity: point.score.min(1.0), text: Arc::from(text), group })
    }
}

fn payload(entry: IndexEntry) -> Result<HashMap<String, Value>, IndexError> {
    let answer = String::from_utf8(entry.answer.to_vec()).map_err(|_| {
        Box::new(QdrantError::ConversionError(
            "an answer that is not UTF-8 cannot be kept in qdrant".to_owned(),
        ))
    })?;
    let marks = StoredAnswer::decode(&entry.answer).ok().map(marks).unwrap_or_default();
    let mut payload = HashMap::from([
        (SCOPE.to_owned(), entry.scope.to_hex().into()),
        (QUESTION.to_owned(), entry.id.to_string().into()),
        (TEXT.to_owned(), entry.text.to_string().into()),
        (ANSWER.to_owned(), answer.into()),
        (EXPIRES.to_owned(), entry.expires_at_ms.into()),
        (GROUP.to_owned(), entry.group.0.to_string().into()),
        (WORTH.to_owned(), entry.worth.get().into()),
    ]);
    payload.extend(marks.into_iter().map(|(key, text)| (key.to_owned(), text.into())));
    Ok(payload)
}

/// What a purge chooses an answer by.
fn marks(answer: StoredAnswer) -> Vec<(&'static str, String)> {
    let origin = answer.origin.into_iter().flat_map(|origin| {
        [(TEAM, origin.team.to_string()), (ROUTE, origin.route.to_string()), (CALL, origin.call.to_string())]
    });
    origin.chain([(MODEL, answer.model)]).collect()
}

/// Points with all the marks that are given.
fn filter_of(chosen: &Chosen) -> Filter {
    let marks = [
        (TEAM, chosen.team.as_ref().map(ToString::to_string)),
        (ROUTE, chosen.route.as_ref().map(ToString::to_string)),
        (MODEL, chosen.model.clone()),
        (CALL, chosen.call.map(|call| call.to_string())),
    ];
    Filter::must(marks.into_iter().filter_map(|(key, text)| Some(Condition::matches(key, text?))))
}

/// Qdrant's ids have 128 bits: the first half of the fingerprint; the whole is in the payload.
fn point_id(id: EntryId) -> String {
    let mut half = [0; 16];
    half.copy_from_slice(&id.question().as_bytes()[..16]);
    uuid::Uuid::from_bytes(half).to_string()
}

fn text_of(value: Value) -> Option<String> {
    match value.kind? {
        qdrant_client::qdrant::value::Kind::StringValue(text) => Some(text),
        qdrant_client::qdrant::value::Kind::NullValue(_)
        | qdrant_client::qdrant::value::Kind::DoubleValue(_)
        | qdrant_client::qdrant::value::Kind::IntegerValue(_)
        | qdrant_client::qdrant::value::Kind::BoolValue(_)
        | qdrant_client::qdrant::value::Kind::StructValue(_)
        | qdrant_client::qdrant::value::Kind::ListValue(_) => None,
    }
}

fn is_not_found(error: &QdrantError) -> bool {
    // Spelled as text, because the status type belongs to the client's own version of tonic.
    matches!(error, QdrantError::ResponseError { status } if format!("{:?}", status.code()) == "NotFound")
}

/// What is not there needs no deleting and counts 0.
fn unless_absent<T>(outcome: Result<T, IndexError>) -> Result<Option<T>, IndexError> {
    match outcome {
        Ok(done) => Ok(Some(done)),
        Err(IndexError::Qdrant(error)) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Index for QdrantIndex {
    fn upsert(&self, entry: IndexEntry, now_ms: i64) -> BoxFuture<'_, Result<(), IndexError>> {
        self.write(entry, now_ms).boxed()
    }

    fn nearest<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Result<Vec<Neighbour>, IndexError>> {
        async move { self.query(&wanted).await }.boxed()
    }

    fn answer(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Bytes>, IndexError>> {
        self.read_answer(id).boxed()
    }

    /// Nothing goes there for want of room.
    fn touch(&self, _id: EntryId) {}

    fn remove(&self, id: EntryId) -> BoxFuture<'_, Result<u64, IndexError>> {
        async move {
            let named = Filter::must([Condition::matches(QUESTION, id.to_string())]);
            let n_points = self.n_points(named).await?;
            let ids = PointsIdsList { ids: vec![point_id(id).into()] };
            let delete = DeletePointsBuilder::new(self.collection.as_str()).points(ids).wait(true);
            unless_absent(self.outcome(self.client.delete_points(delete).await)).map(|_| n_points)
        }
        .boxed()
    }

    /// Deletes the collection; the next entry makes it anew, for whatever dimensions it has.
    fn purge(&self) -> BoxFuture<'_, Result<u64, IndexError>> {
        async move {
            let n_points = self.n_points(Filter::default()).await?;
            let deleted = self.client.delete_collection(self.collection.as_str()).await;
            *self.n_dims.lock() = None;
            unless_absent(self.outcome(deleted)).map(|_| n_points)
        }
        .boxed()
    }

    fn purge_where<'a>(&'a self, chosen: &'a Chosen) -> BoxFuture<'a, Result<u64, IndexError>> {
        async move {
            // A filter without a condition lets everything pass.
            if chosen.is_empty() {
                return Ok(0);
            }
            self.purge_by(filter_of(chosen)).await
        }
        .boxed()
    }

    fn size_bytes(&self) -> Option<u64> {
        None
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, IndexError>> {
        self.n_points(Filter::default()).boxed()
    }

    fn readiness(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        async move {
            self.client.health_check().await.map_err(Box::new)?;
            Ok(())
        }
        .boxed()
    }

    fn name(&self) -> &'static str {
        "qdrant"
    }
}
