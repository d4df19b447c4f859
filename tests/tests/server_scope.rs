//! The scope that each worker has: its tasks fail with the worker, and end with it.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aioxide::{OnFailure, Restart, Running, Server, Worker, actxmgr};
use aioxide_tests::PATIENCE;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

/// What a worker's code says, in this order.
#[derive(Clone)]
struct Log(mpsc::UnboundedSender<&'static str>);

impl Log {
    fn say(&self, what: &'static str) {
        let _ = self.0.send(what);
    }
}

#[actxmgr]
async fn held(log: Log, what: &'static str) {
    yield_().await;
    tokio::task::yield_now().await;
    log.say(what);
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it comes in time")
}

/// A server of one worker, and what its code says.
fn server<F, Fut>(body: F) -> (Server, mpsc::UnboundedReceiver<&'static str>)
where
    F: FnOnce(Worker, Log) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), String>> + 'static,
{
    let (say, heard) = mpsc::unbounded_channel();
    let log = Log(say);
    let server = Server::new(move |worker| body.clone()(worker, log.clone()))
        .workers(1)
        .shutdown_timeout(Duration::from_secs(20));
    (server, heard)
}

async fn said(mut heard: mpsc::UnboundedReceiver<&'static str>) -> Vec<&'static str> {
    let mut all = Vec::new();
    while let Some(what) = within(heard.recv()).await {
        all.push(what);
    }
    all
}

async fn fails(running: &Running) -> String {
    match within(running.ready()).await {
        Err(error) => error.to_string(),
        Ok(()) => panic!("it is ready"),
    }
}

#[tokio::test]
async fn a_task_that_fails_ends_its_worker() {
    let (server, heard) = server(async |worker, log| {
        let _held = held(log.clone(), "function").await;
        let other = log.clone();
        worker.scope().spawn(async move {
            let _held = held(other, "task").await;
            std::future::pending::<()>().await;
        });
        worker.scope().spawn(async {
            tokio::task::yield_now().await;
            Err::<(), _>("no such feed".into())
        });
        std::future::pending().await
    });
    let running = server.start();
    let failure = fails(&running).await;
    assert!(failure.contains("no such feed"), "{failure}");
    assert_eq!(within(running.wait()).await, 1);
    drop(running);
    let mut said = said(heard).await;
    said.sort_unstable();
    assert_eq!(said, ["function", "task"]);
}

#[tokio::test]
async fn a_function_that_ends_by_a_tasks_failure_does_not_hide_it() {
    let (server, _heard) = server(async |worker, _| {
        let task = worker
            .scope()
            .spawn(async { Err::<(), _>("no such feed".into()) });
        task.await.map_err(|error| error.to_string())
    });
    let running = server.start();
    let failure = fails(&running).await;
    assert!(failure.contains("no such feed"), "{failure}");
}

#[tokio::test]
async fn a_task_that_panics_ends_its_worker_until_that_is_started_again() {
    let starts = Arc::new(Mutex::new(0));
    let (server, mut heard) = server({
        let starts = Arc::clone(&starts);
        async move |worker, log| {
            let first = {
                let mut starts = starts.lock().unwrap();
                *starts += 1;
                *starts == 1
            };
            if first {
                let ready = worker.ready();
                worker.scope().spawn(async { panic!("out of luck") });
                ready.await;
            }
            log.say("second");
            worker.ready().await;
            Ok(())
        }
    });
    let running = server.on_failure(OnFailure::Restart).start();
    assert_eq!(within(heard.recv()).await, Some("second"));
    assert_eq!(within(running.stop()).await, 0);
    assert_eq!(*starts.lock().unwrap(), 2);
}

#[tokio::test]
async fn tasks_end_before_the_worker_and_supervised_ones_after_the_others() {
    let stopped = Arc::new(Notify::new());
    let (server, heard) = server({
        let stopped = Arc::clone(&stopped);
        async move |worker, log| {
            let scope = worker.scope().clone();
            let feed = log.clone();
            scope.supervise("feed", Restart::default(), move || {
                let feed = feed.clone();
                async move {
                    let _held = held(feed, "supervised").await;
                    std::future::pending::<()>().await;
                }
            });
            let task = log.clone();
            scope.spawn(async move {
                stopped.notified().await;
                task.say("spawned");
            });
            worker.ready().await;
            log.say("function");
            Ok(())
        }
    });
    let running = server.start();
    within(running.ready()).await.expect("it gets ready");
    let stopping = running.stop();
    stopped.notify_one();
    assert_eq!(within(stopping).await, 0);
    drop(running);
    let said = said(heard).await;
    assert_eq!(said.last(), Some(&"supervised"), "{said:?}");
    assert_eq!(said.len(), 3, "{said:?}");
}

#[tokio::test]
async fn what_handlers_enter_is_inside_the_place_that_serves() {
    let (server, heard) = server(async |worker, log| {
        let listener = worker.listen("127.0.0.1:0").await.expect("an address");
        let address = listener.local_addr().expect("an address");
        let dropped = Rc::new(Notify::new());
        let serving = worker.serve(listener, {
            let (log, dropped) = (log.clone(), Rc::clone(&dropped));
            move |_| {
                let (log, dropped) = (log.clone(), Rc::clone(&dropped));
                async move {
                    drop(held(log, "connection").await);
                    dropped.notify_one();
                }
            }
        });
        let _client = TcpStream::connect(address).await.expect("it is served");
        dropped.notified().await;
        aioxide::settle().await;
        log.say("settled");
        let stop = worker.ready().await;
        serving.drain(&stop).await;
        Ok(())
    });
    let running = server.start();
    within(running.ready()).await.expect("it gets ready");
    assert_eq!(within(running.stop()).await, 0);
    drop(running);
    assert_eq!(said(heard).await, ["connection", "settled"]);
}

#[tokio::test]
async fn a_scope_that_has_ended_starts_nothing() {
    let (say, mut heard) = mpsc::unbounded_channel();
    let (server, _heard) = server(async move |worker, _| {
        let _ = say.send(worker.clone());
        worker.ready().await;
        Ok(())
    });
    let running = server.start();
    within(running.ready()).await.expect("it gets ready");
    let worker = within(heard.recv()).await.expect("it was sent");
    assert_eq!(within(running.stop()).await, 0);
    assert!(worker.scope().try_spawn(async {}).is_err());
}

#[tokio::test]
async fn a_synchronous_extra_has_none() {
    let (server, _heard) = server(async |worker, _| {
        worker.ready().await;
        Ok(())
    });
    let (say, mut heard) = mpsc::unbounded_channel();
    let running = server
        .extra("router", move |worker: Worker| {
            let asked = AssertUnwindSafe(|| worker.scope().len());
            let _ = say.send(std::panic::catch_unwind(asked));
            worker.stopped_blocking();
        })
        .start();
    let panic = within(heard.recv()).await.expect("it runs").unwrap_err();
    let text = panic.downcast_ref::<String>().expect("a text");
    assert!(text.contains("`router` is a synchronous extra"), "{text}");
    assert_eq!(within(running.stop()).await, 0);
}
