//! Making, describing and deleting collections.

use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::{
    CollectionConfig, CollectionExists, CollectionExistsRequest, CollectionExistsResponse, CollectionInfo,
    CollectionOperationResponse, CollectionParams, CreateCollection, DeleteCollection,
    GetCollectionInfoRequest, GetCollectionInfoResponse, VectorParams, VectorsConfig, vectors_config,
};
use tonic::{Request, Response, Status};

use super::{Collection, Shelves, lacking};

type Answer<T> = Result<Response<T>, Status>;

fn done(result: bool) -> Answer<CollectionOperationResponse> {
    Ok(Response::new(CollectionOperationResponse { result, time: 0.0 }))
}

#[tonic::async_trait]
impl Collections for Shelves {
    async fn get(&self, request: Request<GetCollectionInfoRequest>) -> Answer<GetCollectionInfoResponse> {
        self.on(&request.into_inner().collection_name, |collection| {
            let params = VectorParams { size: collection.n_dims as u64, ..VectorParams::default() };
            let vectors = VectorsConfig { config: Some(vectors_config::Config::Params(params)) };
            let params = CollectionParams { vectors_config: Some(vectors), ..CollectionParams::default() };
            let config = CollectionConfig { params: Some(params), ..CollectionConfig::default() };
            let info = CollectionInfo { config: Some(config), ..CollectionInfo::default() };
            Ok(Response::new(GetCollectionInfoResponse { result: Some(info), time: 0.0 }))
        })
    }

    async fn create(&self, request: Request<CreateCollection>) -> Answer<CollectionOperationResponse> {
        let request = request.into_inner();
        let Some(vectors_config::Config::Params(params)) =
            request.vectors_config.and_then(|vectors| vectors.config)
        else {
            return Err(Status::unimplemented("collections without exactly one vector"));
        };
        let name = request.collection_name;
        let mut shelves = self.lock();
        if shelves.contains_key(&name) {
            return Err(Status::already_exists(format!("Wrong input: Collection `{name}` already exists!")));
        }
        let n_dims = usize::try_from(params.size).map_err(|_| Status::invalid_argument("size"))?;
        shelves.insert(name, Collection { n_dims, ..Collection::default() });
        done(true)
    }

    async fn delete(&self, request: Request<DeleteCollection>) -> Answer<CollectionOperationResponse> {
        done(self.lock().remove(&request.into_inner().collection_name).is_some())
    }

    async fn collection_exists(
        &self,
        request: Request<CollectionExistsRequest>,
    ) -> Answer<CollectionExistsResponse> {
        let exists = self.lock().contains_key(&request.into_inner().collection_name);
        let result = Some(CollectionExists { exists });
        Ok(Response::new(CollectionExistsResponse { result, time: 0.0 }))
    }

    lacking! {
        list: ListCollectionsRequest -> ListCollectionsResponse,
        update: UpdateCollection -> CollectionOperationResponse,
        update_aliases: ChangeAliases -> CollectionOperationResponse,
        list_collection_aliases: ListCollectionAliasesRequest -> ListAliasesResponse,
        list_aliases: ListAliasesRequest -> ListAliasesResponse,
        collection_cluster_info: CollectionClusterInfoRequest -> CollectionClusterInfoResponse,
        update_collection_cluster_setup: UpdateCollectionClusterSetupRequest -> UpdateCollectionClusterSetupResponse,
        create_shard_key: CreateShardKeyRequest -> CreateShardKeyResponse,
        delete_shard_key: DeleteShardKeyRequest -> DeleteShardKeyResponse,
        list_shard_keys: ListShardKeysRequest -> ListShardKeysResponse,
    }
}
