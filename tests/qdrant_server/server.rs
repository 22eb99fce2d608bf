//! A small Qdrant in this process, over real gRPC: what the semantic index uses of it, no more.
//!
//! Searches exactly, keeps everything in memory, and refuses as "unimplemented" whatever it lacks
//! rather than answer wrongly.

mod collections;
mod filter;
mod points;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::{Qdrant, QdrantServer};
use qdrant_client::qdrant::{HealthCheckReply, HealthCheckRequest, Value};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Writes out a method that this server lacks, in the form `async_trait` gives methods.
macro_rules! lacking {
    ($($method:ident: $request:ident -> $response:ident,)*) => {$(
        fn $method<'life0, 'async_trait>(
            &'life0 self,
            _: tonic::Request<qdrant_client::qdrant::$request>,
        ) -> std::pin::Pin<Box<dyn Future<
            Output = Result<tonic::Response<qdrant_client::qdrant::$response>, tonic::Status>,
        > + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(std::future::ready(Err(tonic::Status::unimplemented(stringify!($method)))))
        }
    )*};
}
pub(crate) use lacking;

#[derive(Debug, Default)]
pub(crate) struct Collection {
    pub(crate) n_dims: usize,
    pub(crate) indexed_fields: HashSet<String>,
    pub(crate) points: HashMap<String, Point>,
}

#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) vector: Vec<f32>,
    pub(crate) payload: HashMap<String, Value>,
}

/// All collections, shared by the services and the test.
#[derive(Clone, Default)]
pub(crate) struct Shelves(Arc<Mutex<HashMap<String, Collection>>>);

impl Shelves {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<String, Collection>> {
        self.0.lock().expect("nobody panics while holding it")
    }

    /// Runs `with` on a collection, or answers as Qdrant does when there is none.
    fn on<T>(
        &self,
        name: &str,
        with: impl FnOnce(&mut Collection) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let mut shelves = self.lock();
        let missing = || Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"));
        with(shelves.get_mut(name).ok_or_else(missing)?)
    }
}

struct Health;

#[tonic::async_trait]
impl Qdrant for Health {
    async fn health_check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckReply>, Status> {
        let reply =
            HealthCheckReply { title: "in-process".to_owned(), version: "1.20.0".to_owned(), commit: None };
        Ok(Response::new(reply))
    }
}

pub(crate) struct InProcessQdrant {
    runtime: Option<tokio::runtime::Runtime>,
    url: String,
    pub(crate) shelves: Shelves,
}

impl InProcessQdrant {
    pub(crate) fn start() -> Self {
        Self::requiring(None)
    }

    /// With a key, requests without it are refused.
    pub(crate) fn requiring(api_key: Option<&'static str>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread");
        let shelves = Shelves::default();
        let incoming = {
            let _entered = runtime.enter();
            TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port")
        };
        let url = format!("http://{}", incoming.local_addr().expect("a bound socket has an address"));
        let check = move |request: Request<()>| match api_key {
            Some(key) if request.metadata().get("api-key").is_none_or(|given| given != key) => {
                Err(Status::unauthenticated("Must provide an API key"))
            }
            Some(_) | None => Ok(request),
        };
        let serving = Server::builder()
            .add_service(QdrantServer::with_interceptor(Health, check))
            .add_service(CollectionsServer::with_interceptor(shelves.clone(), check))
            .add_service(PointsServer::with_interceptor(shelves.clone(), check))
            .serve_with_incoming(incoming);
        runtime.spawn(serving);
        Self { runtime: Some(runtime), url, shelves }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Ends it at once, with all its connections.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for InProcessQdrant {
    fn drop(&mut self) {
        self.kill();
    }
}
