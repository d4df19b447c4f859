//! The grpc example as a real process, with tonic's client.

use std::net::SocketAddr;
use std::process::Command;

use aioxide_tests::{PATIENCE, Running, Signal};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn grpc(isolation: &str) -> Running {
    Running::start(
        Command::new(env!("CARGO_BIN_EXE_grpc"))
            .args(["--isolation", isolation])
            .args(["--listen", "127.0.0.1:0", "--workers", "2"]),
    )
}

fn client(address: SocketAddr) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    HealthClient::new(endpoint.expect("an address").connect_lazy())
}

/// Those that a roll ends are begun again; single calls go on all the while.
fn a_roll_ends_streams_and_loses_no_call(isolation: &str) {
    let mut server = grpc(isolation);
    let address = server.wait_until_ready();
    // Its clients go on while this thread waits for the server.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let calls = async {
        let (mut asking, mut watching) = (client(address), client(address));
        for _ in 0..3 {
            let request = HealthCheckRequest::default();
            let watched = watching.watch(request.clone()).await;
            let mut watched = watched.expect("a stream").into_inner();
            let first = watched.message().await.expect("the stream is well");
            assert_eq!(
                first.map(|health| health.status()),
                Some(ServingStatus::Serving)
            );
            server.signal(Signal::HUP);
            let end = async {
                assert_eq!(watched.message().await.expect("it ends in order"), None);
            };
            tokio::pin!(end);
            loop {
                let answer = asking.check(request.clone());
                tokio::select! {
                    () = &mut end => break,
                    answer = answer => drop(answer.expect("each call is answered")),
                }
            }
            for _ in 0..50 {
                asking
                    .check(request.clone())
                    .await
                    .expect("each call is answered");
            }
            server.wait_for("rolling restart done");
        }
    };
    let in_time = async { tokio::time::timeout(2 * PATIENCE, calls).await };
    runtime.block_on(in_time).expect("in time");
    drop(runtime);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
}

aioxide_tests::under_both_isolations! {
    a_roll_ends_streams_and_loses_no_call,
}
