//! `yield_()` is an ordinary future, wherever it stands.
use std::future::Future;
use std::process::ExitCode;

use aioxide::{Server, Stop, Worker, actxmgr, server};

#[server(workers = 1, run_to_completion)]
async fn in_select(_: Worker) {
    tokio::select! {
        biased;
        () = std::future::pending() => {}
        stop = yield_() => println!("{stop}"),
    }
}
#[server(workers = 1, run_to_completion)]
async fn in_a_loop(_: Worker) {
    let mut rounds = 0;
    loop {
        let stop: Stop = yield_().await;
        rounds += 1;
        if rounds == 3 {
            println!("{stop}");
            break;
        }
    }
}
#[server(workers = 1, run_to_completion)]
async fn handed_over(_: Worker) {
    async fn serve(until: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(until).await.unwrap();
    }
    serve(async move {
        yield_().await;
    })
    .await;
}
#[server(workers = 1, run_to_completion)]
async fn kept_and_cloned(_: Worker) {
    let stopping = yield_();
    let (a, b) = tokio::join!(stopping.clone(), stopping);
    println!("{a} {b}");
}
#[server(workers = 1, run_to_completion)]
async fn beside_a_context_with_its_own(_: Worker) {
    #[actxmgr]
    async fn connection() -> u16 {
        yield_(5432).await;
    }
    let guard = connection().await;
    yield_().await;
    guard.exit().await;
}
#[server(workers = 1, run_to_completion)]
async fn r#async(worker: Worker) {
    let state = std::rc::Rc::new(worker.index());
    yield_().await;
    println!("{state}");
}

fn main() -> ExitCode {
    let servers: [fn() -> Server; 6] =
        [in_select, in_a_loop, handed_over, kept_and_cloned, beside_a_context_with_its_own, r#async];
    let failed = servers.into_iter().position(|server| server().run() != ExitCode::SUCCESS);
    assert_eq!(failed, None);
    ExitCode::SUCCESS
}
