//! Writing, reading, deleting, counting and searching points.

use std::collections::HashMap;

use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::with_payload_selector::SelectorOptions;
use qdrant_client::qdrant::{
    CountPoints, CountResponse, CountResult, CreateFieldIndexCollection, DeletePoints, GetPoints,
    GetResponse, PointId, PointStruct, PointsOperationResponse, QueryPoints, QueryResponse, RetrievedPoint,
    ScoredPoint, UpsertPoints, Value, WithPayloadSelector, query, vector, vector_input,
};
use tonic::{Request, Response, Status};

use super::filter::passes;
use super::{Collection, Point, Shelves, lacking};

type Answer<T> = Result<Response<T>, Status>;

fn done() -> Answer<PointsOperationResponse> {
    Ok(Response::new(PointsOperationResponse::default()))
}

fn id_text(id: Option<&PointId>) -> Result<String, Status> {
    match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(PointIdOptions::Uuid(uuid)) => Ok(uuid.clone()),
        Some(PointIdOptions::Num(number)) => Ok(number.to_string()),
        None => Err(Status::invalid_argument("a point without an id")),
    }
}

fn check_dims(collection: &Collection, vector: &[f32]) -> Result<(), Status> {
    if collection.n_dims == vector.len() {
        return Ok(());
    }
    let (expected, given) = (collection.n_dims, vector.len());
    let message = format!("Wrong input: Vector dimension error: expected dim: {expected}, got {given}");
    Err(Status::invalid_argument(message))
}

fn put(collection: &mut Collection, point: PointStruct) -> Result<(), Status> {
    let options = point.vectors.and_then(|vectors| vectors.vectors_options);
    let Some(VectorsOptions::Vector(vector)) = options else {
        return Err(Status::unimplemented("named vectors"));
    };
    let Some(vector::Vector::Dense(dense)) = vector.vector else {
        return Err(Status::unimplemented("vectors that are not dense"));
    };
    check_dims(collection, &dense.data)?;
    let point_id = id_text(point.id.as_ref())?;
    collection.points.insert(point_id, Point { vector: dense.data, payload: point.payload });
    Ok(())
}

/// What a request wants to see of a payload; nothing where it does not say.
fn shown(point: &Point, selector: Option<&WithPayloadSelector>) -> HashMap<String, Value> {
    let chosen = |is_wanted: &dyn Fn(&String) -> bool| {
        let fields = point.payload.iter().filter(|(key, _)| is_wanted(key));
        fields.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    match selector.and_then(|selector| selector.selector_options.as_ref()) {
        None | Some(SelectorOptions::Enable(false)) => HashMap::new(),
        Some(SelectorOptions::Enable(true)) => point.payload.clone(),
        Some(SelectorOptions::Include(include)) => chosen(&|key| include.fields.contains(key)),
        Some(SelectorOptions::Exclude(exclude)) => chosen(&|key| !exclude.fields.contains(key)),
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn search(collection: &Collection, request: &QueryPoints) -> Result<Vec<ScoredPoint>, Status> {
    let Some(query::Variant::Nearest(input)) =
        request.query.as_ref().and_then(|query| query.variant.as_ref())
    else {
        return Err(Status::unimplemented("queries that are not for the nearest"));
    };
    let Some(vector_input::Variant::Dense(wanted)) = &input.variant else {
        return Err(Status::unimplemented("vectors that are not dense"));
    };
    check_dims(collection, &wanted.data)?;
    let filter = request.filter.clone().unwrap_or_default();
    let mut found = Vec::new();
    for (id, point) in &collection.points {
        let score = cosine(&point.vector, &wanted.data);
        let is_near = request.score_threshold.is_none_or(|threshold| score >= threshold);
        if is_near && passes(&filter, &point.payload)? {
            let payload = shown(point, request.with_payload.as_ref());
            found.push(ScoredPoint { id: Some(id.clone().into()), payload, score, ..ScoredPoint::default() });
        }
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(usize::try_from(request.limit.unwrap_or(10)).unwrap_or(usize::MAX));
    Ok(found)
}

#[tonic::async_trait]
impl Points for Shelves {
    async fn upsert(&self, request: Request<UpsertPoints>) -> Answer<PointsOperationResponse> {
        let request = request.into_inner();
        self.on(&request.collection_name, |collection| {
            request.points.into_iter().try_for_each(|point| put(collection, point))
        })?;
        done()
    }

    async fn delete(&self, request: Request<DeletePoints>) -> Answer<PointsOperationResponse> {
        let request = request.into_inner();
        let selector = request.points.and_then(|selector| selector.points_selector_one_of);
        self.on(&request.collection_name, |collection| match selector {
            Some(PointsSelectorOneOf::Points(list)) => {
                for id in &list.ids {
                    collection.points.remove(&id_text(Some(id))?);
                }
                Ok(())
            }
            Some(PointsSelectorOneOf::Filter(filter)) => {
                let mut outcome = Ok(());
                collection.points.retain(|_, point| match passes(&filter, &point.payload) {
                    Ok(passes) => !passes,
                    Err(status) => {
                        outcome = Err(status);
                        true
                    }
                });
                outcome
            }
            None => Err(Status::invalid_argument("nothing to delete")),
        })?;
        done()
    }

    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Answer<PointsOperationResponse> {
        let request = request.into_inner();
        self.on(&request.collection_name, |collection| {
            collection.indexed_fields.insert(request.field_name);
            Ok(())
        })?;
        done()
    }

    async fn count(&self, request: Request<CountPoints>) -> Answer<CountResponse> {
        let request = request.into_inner();
        let filter = request.filter.unwrap_or_default();
        let count = self.on(&request.collection_name, |collection| {
            let mut count = 0;
            for point in collection.points.values() {
                count += u64::from(passes(&filter, &point.payload)?);
            }
            Ok(count)
        })?;
        let result = Some(CountResult { count });
        Ok(Response::new(CountResponse { result, ..CountResponse::default() }))
    }

    /// Those that are there, in the order they were asked for.
    async fn get(&self, request: Request<GetPoints>) -> Answer<GetResponse> {
        let request = request.into_inner();
        let result = self.on(&request.collection_name, |collection| {
            let mut found = Vec::new();
            for id in &request.ids {
                if let Some(point) = collection.points.get(&id_text(Some(id))?) {
                    let payload = shown(point, request.with_payload.as_ref());
                    found.push(RetrievedPoint { id: Some(id.clone()), payload, ..RetrievedPoint::default() });
                }
            }
            Ok(found)
        })?;
        Ok(Response::new(GetResponse { result, ..GetResponse::default() }))
    }

    async fn query(&self, request: Request<QueryPoints>) -> Answer<QueryResponse> {
        let request = request.into_inner();
        let result = self.on(&request.collection_name, |collection| search(collection, &request))?;
        Ok(Response::new(QueryResponse { result, ..QueryResponse::default() }))
    }

    lacking! {
        update_vectors: UpdatePointVectors -> PointsOperationResponse,
        delete_vectors: DeletePointVectors -> PointsOperationResponse,
        set_payload: SetPayloadPoints -> PointsOperationResponse,
        overwrite_payload: SetPayloadPoints -> PointsOperationResponse,
        delete_payload: DeletePayloadPoints -> PointsOperationResponse,
        clear_payload: ClearPayloadPoints -> PointsOperationResponse,
        delete_field_index: DeleteFieldIndexCollection -> PointsOperationResponse,
        create_vector_name: CreateVectorNameRequest -> PointsOperationResponse,
        delete_vector_name: DeleteVectorNameRequest -> PointsOperationResponse,
        search: SearchPoints -> SearchResponse,
        search_batch: SearchBatchPoints -> SearchBatchResponse,
        search_groups: SearchPointGroups -> SearchGroupsResponse,
        scroll: ScrollPoints -> ScrollResponse,
        recommend: RecommendPoints -> RecommendResponse,
        recommend_batch: RecommendBatchPoints -> RecommendBatchResponse,
        recommend_groups: RecommendPointGroups -> RecommendGroupsResponse,
        discover: DiscoverPoints -> DiscoverResponse,
        discover_batch: DiscoverBatchPoints -> DiscoverBatchResponse,
        update_batch: UpdateBatchPoints -> UpdateBatchResponse,
        query_batch: QueryBatchPoints -> QueryBatchResponse,
        query_groups: QueryPointGroups -> QueryGroupsResponse,
        facet: FacetCounts -> FacetResponse,
        search_matrix_pairs: SearchMatrixPoints -> SearchMatrixPairsResponse,
        search_matrix_offsets: SearchMatrixPoints -> SearchMatrixOffsetsResponse,
    }
}
