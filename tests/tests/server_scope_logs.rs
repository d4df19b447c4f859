//! What is logged of failures in a worker's scope that the worker doesn't fail with. In a program of its own, with one test,
//! because the log is that of the process.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use aioxide::{Server, Worker};
use aioxide_tests::PATIENCE;
use tokio::time::timeout;

/// It panics when it is dropped.
struct Broken;

impl Drop for Broken {
    fn drop(&mut self) {
        panic!("out of luck");
    }
}

#[tokio::test]
async fn a_second_failure_is_logged() {
    let (log, writer) = UnixStream::pair().unwrap();
    log.set_read_timeout(Some(PATIENCE)).unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(Arc::new(writer))
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let server = Server::new(async |worker: Worker| {
        worker.scope().spawn(async {
            let _broken = Broken;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        Err::<(), _>("of the function")
    });
    let running = server.workers(1).start();
    assert_eq!(timeout(PATIENCE, running.wait()).await, Ok(1));
    let said = "a task of the worker's scope has failed too: panicked: out of luck";
    let mut lines = BufReader::new(log).lines();
    assert!(lines.any(|line| line.expect("it is logged").contains(said)));
}
