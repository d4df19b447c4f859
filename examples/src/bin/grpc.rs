//! gRPC by tonic: a health service, whose streams end when their worker is asked to stop.
//!
//! ```text
//! cargo run --release -p aioxide-examples --features grpc --bin grpc -- --listen 127.0.0.1:50051
//! ```
//!
//! `grpc_health_probe -addr 127.0.0.1:50051` asks it. A rolling restart, `kill -HUP`, loses no call.

use std::io;
use std::pin::Pin;
use std::process::ExitCode;

use aioxide::http::Stopping;
use aioxide::{Isolation, Worker, server};
use clap::Parser;
use futures_util::{Stream, StreamExt, stream};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Answers gRPC's questions for the server's health.
#[derive(Clone, Parser)]
struct Options {
    /// Where to listen: an address or a host name, with a port; port 0 picks a free one.
    #[arg(long, short, default_value = "127.0.0.1:50051")]
    listen: String,
    /// How many workers.
    #[arg(long, short, default_value_t = 4)]
    workers: usize,
    /// What a worker is: `thread` or `process`.
    #[arg(long, default_value_t)]
    isolation: Isolation,
}

/// Whoever is asked is well.
struct Well;

fn serving() -> HealthCheckResponse {
    HealthCheckResponse {
        status: ServingStatus::Serving.into(),
    }
}

#[tonic::async_trait]
impl Health for Well {
    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(serving()))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let stopping = request.extensions().get::<Stopping>().cloned();
        let stopping = stopping.ok_or_else(|| Status::internal("no worker serves this"))?;
        // It never changes. The client watches another worker once this one goes.
        let health = stream::iter([Ok(serving())]).chain(stream::pending());
        Ok(Response::new(Box::pin(health.take_until(stopping))))
    }
}

#[server(workers = options.workers)]
async fn grpc(worker: Worker, options: Options) -> io::Result<()> {
    let listener = worker.listen(options.listen).await?;
    let routes = Routes::new(HealthServer::new(Well)).prepare();
    let serving = worker.serve_http(listener, routes);
    let stop = yield_().await;
    serving.drain(&stop).await;
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    let isolation = options.isolation;
    aioxide::logging::init();
    grpc(options).isolation(isolation).run()
}
