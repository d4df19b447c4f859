//! Servers that are started beside the rest of a program, many in one process.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use aioxide::{
    Addresses, Isolation, OnFailure, Running, Server, StopReason, Worker, actxmgr, server,
};
use aioxide_tests::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What a worker tells the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Started {
        index: usize,
        generation: u64,
        isolation: Isolation,
    },
    Stopped(StopReason),
}

type Say = mpsc::UnboundedSender<Said>;

/// Answers a connection with its worker's index and generation.
#[server(workers = 2, shutdown_timeout = 20s)]
async fn numbers(worker: Worker, say: Say) -> io::Result<()> {
    let started = Said::Started {
        index: worker.index(),
        generation: worker.generation(),
        isolation: worker.isolation(),
    };
    let listener = worker.listen("127.0.0.1:0").await?;
    let _ = say.send(started);
    let answer = [worker.index() as u8, worker.generation() as u8];
    let serving = worker.serve(listener, move |mut stream: TcpStream| async move {
        stream.write_all(&answer).await
    });
    let stop = yield_().await;
    let _ = say.send(Said::Stopped(stop.reason()));
    serving.drain(&stop).await;
    Ok(())
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it comes in time")
}

async fn ask(address: SocketAddr) -> [u8; 2] {
    let mut answer = [0; 2];
    let mut stream = within(TcpStream::connect(address))
        .await
        .expect("it accepts");
    within(stream.read_exact(&mut answer))
        .await
        .expect("it answers");
    answer
}

async fn assert_closed(address: SocketAddr) {
    let connected = TcpStream::connect(address).await;
    assert_eq!(connected.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

async fn started(server: Server) -> (Running, SocketAddr) {
    let running = server.start();
    within(running.ready()).await.expect("it gets ready");
    let address = running.addresses()["127.0.0.1:0"];
    (running, address)
}

/// Waits until a worker of this index and generation has started.
async fn until_started(heard: &mut mpsc::UnboundedReceiver<Said>, index: usize, generation: u64) {
    loop {
        match within(heard.recv()).await.expect("the server lives") {
            Said::Started {
                index: i,
                generation: g,
                ..
            } if (i, g) == (index, generation) => return,
            _ => {}
        }
    }
}

#[tokio::test]
async fn it_is_served_and_stopped() {
    let (say, mut heard) = mpsc::unbounded_channel();
    let (running, address) = started(numbers(say)).await;
    assert_eq!(ask(address).await[1], 0);
    assert_eq!(running.addresses().all("127.0.0.1:0").count(), 1);
    assert_eq!(within(running.stop()).await, 0);
    assert_closed(address).await;
    // It is over, and stays so.
    assert_eq!(running.stop().await, 0);
    assert_eq!(running.wait().await, 0);
    assert_eq!(running.ready().await, Ok(()));
    let mut said = Vec::new();
    heard.recv_many(&mut said, 100).await;
    let stopped = Said::Stopped(StopReason::Requested);
    assert_eq!(said.iter().filter(|said| **said == stopped).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_run_in_one_process() {
    let mut all = Vec::new();
    for _ in 0..8 {
        let (say, heard) = mpsc::unbounded_channel();
        all.push((started(numbers(say)).await, heard));
    }
    let mut ports: Vec<u16> = all.iter().map(|((_, address), _)| address.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8);
    // One after the other; those that are left go on.
    while let Some(((running, address), _heard)) = all.pop() {
        assert_eq!(within(running.stop()).await, 0);
        assert_closed(address).await;
        for ((_, address), _) in &all {
            ask(*address).await;
        }
    }
}

#[tokio::test]
async fn workers_are_threads_whatever_is_asked_for() {
    let (say, mut heard) = mpsc::unbounded_channel();
    let (running, _) = started(numbers(say).isolation(Isolation::Process)).await;
    let said = within(heard.recv()).await;
    assert!(
        matches!(
            said,
            Some(Said::Started {
                isolation: Isolation::Thread,
                ..
            })
        ),
        "{said:?}"
    );
    assert_eq!(within(running.stop()).await, 0);
}

/// Without a runtime, and with a blocked thread to wait in.
#[test]
fn it_needs_no_runtime() {
    let (say, _heard) = mpsc::unbounded_channel();
    let running = numbers(say).start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    assert_eq!(runtime.block_on(running.stop()), 0);
}

#[tokio::test]
async fn it_is_reloaded_without_a_lost_connection() {
    let (say, mut heard) = mpsc::unbounded_channel();
    let (running, address) = started(numbers(say)).await;
    let done = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            let mut answered = 0;
            while !done.load(SeqCst) {
                ask(address).await;
                answered += 1;
            }
            answered
        }
    });
    for generation in 1..=3 {
        running.reload();
        until_started(&mut heard, 1, generation).await;
    }
    done.store(true, SeqCst);
    assert!(within(asking).await.expect("no client fails") > 0);
    assert_eq!(within(running.stop()).await, 0);
}

#[tokio::test]
async fn it_is_scaled() {
    let (say, mut heard) = mpsc::unbounded_channel();
    let (running, _) = started(numbers(say)).await;
    running.scale(4);
    until_started(&mut heard, 3, 0).await;
    running.scale(1);
    let scaled = Said::Stopped(StopReason::ScaleDown);
    let mut gone = 0;
    while gone < 3 {
        let said = within(heard.recv()).await.expect("the server lives");
        gone += usize::from(said == scaled);
    }
    assert_eq!(within(running.stop()).await, 0);
}

#[tokio::test]
async fn dropped_it_stops() {
    let (say, mut heard) = mpsc::unbounded_channel();
    let (running, address) = started(numbers(say)).await;
    drop(running);
    // The last worker's end is the channel's.
    while let Some(said) = within(heard.recv()).await {
        let requested = Said::Stopped(StopReason::Requested);
        assert!(said == requested || matches!(said, Said::Started { .. }));
    }
    assert_closed(address).await;
}

/// Also when the waiting is given up.
#[tokio::test]
async fn a_stop_that_nobody_waits_for_stops() {
    let (say, _heard) = mpsc::unbounded_channel();
    let (running, _) = started(numbers(say)).await;
    let mut stop = Box::pin(running.stop());
    std::future::poll_fn(|cx| {
        let _ = stop.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
    drop(stop);
    assert_eq!(within(running.wait()).await, 0);
}

#[server(workers = 1)]
async fn fails(worker: Worker) -> Result<(), String> {
    if worker.generation() == 0 {
        return Err("its own mistake".to_owned());
    }
    yield_().await;
    Ok(())
}

#[tokio::test]
async fn a_server_that_never_gets_ready_says_why() {
    let running = fails().start();
    let error = within(running.ready()).await.unwrap_err();
    assert_eq!(error.code(), 1);
    assert_eq!(
        error.to_string(),
        "the server ended with exit code 1 before it was ready: worker 0 failed: its own mistake"
    );
    assert_eq!(within(running.wait()).await, 1);

    let running = fails().workers(0).start();
    let error = running.ready().await.unwrap_err().to_string();
    assert!(
        error.contains("the number of workers is 0; allowed is 1 to"),
        "{error}"
    );
    assert_eq!(running.stop().await, 1);
}

#[server(workers = 1)]
async fn fails_later(worker: Worker, fail: Arc<tokio::sync::Notify>) -> Result<(), String> {
    let _ = worker;
    tokio::select! {
        _ = yield_() => Ok(()),
        () = fail.notified() => Err("its own mistake".to_owned()),
    }
}

#[tokio::test]
async fn a_failure_gives_the_exit_codes_of_a_program() {
    let fail = Arc::new(tokio::sync::Notify::new());
    let running = fails_later(Arc::clone(&fail)).start();
    within(running.ready()).await.expect("it gets ready");
    fail.notify_one();
    assert_eq!(within(running.wait()).await, 1);

    let server = fails_later(Arc::clone(&fail)).on_failure(OnFailure::Restart);
    let running = server.max_restarts(0).start();
    within(running.ready()).await.expect("it gets ready");
    fail.notify_one();
    assert_eq!(within(running.wait()).await, 4);
}

/// A thread can't be ended, and the host program neither must be.
#[tokio::test]
async fn a_worker_that_blocks_is_left() {
    let (let_go, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let server = Server::new(move |worker: Worker| {
        let blocked = Arc::clone(&blocked);
        async move {
            worker.ready().await;
            let _ = blocked.lock().expect("one worker").recv();
        }
    });
    let running = server
        .workers(1)
        .shutdown_timeout(Duration::from_millis(300))
        .start();
    within(running.ready()).await.expect("it gets ready");
    let asked = Instant::now();
    assert_eq!(within(running.stop()).await, 3);
    assert!(asked.elapsed() < Duration::from_secs(10));
    // Longer than a watchdog would wait, were there one for the process.
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(let_go);
}

/// As a worker's, what is made of the job is the user's, and may hang.
#[tokio::test]
async fn an_argument_that_hangs_when_dropped_does_not_keep_the_end() {
    struct Hangs(Arc<Mutex<std::sync::mpsc::Receiver<()>>>);
    impl Drop for Hangs {
        fn drop(&mut self) {
            let _ = self.0.lock().expect("nobody panics").recv();
        }
    }
    let (let_go, blocked) = std::sync::mpsc::channel::<()>();
    let hangs = Arc::new(Hangs(Arc::new(Mutex::new(blocked))));
    let server = Server::new(move |worker: Worker| {
        let _held = &hangs;
        async move {
            worker.ready().await;
        }
    });
    let server = server.workers(1);
    let running = server.shutdown_timeout(Duration::from_millis(300)).start();
    within(running.ready()).await.expect("it gets ready");
    assert_eq!(within(running.stop()).await, 3);
    drop(let_go);
}

#[actxmgr]
async fn shared(left: Arc<AtomicUsize>) -> u8 {
    yield_(7).await;
    left.fetch_add(1, SeqCst);
}

/// The main context and extras are as they are in a server that is run.
#[tokio::test]
async fn it_has_a_main_context_and_extras() {
    async fn metrics(worker: Worker, main: u8) -> io::Result<()> {
        assert_eq!(main, 7);
        let listener = worker.listen("127.0.0.1:0").await?;
        let serving = worker.serve(listener, async |stream| drop(stream));
        let stop = worker.stopping().await;
        serving.drain(&stop).await;
        Ok(())
    }
    let left = Arc::new(AtomicUsize::new(0));
    let announced = Arc::new(Mutex::new(None));
    let server = Server::with_main(
        {
            let left = Arc::clone(&left);
            move || shared(left)
        },
        async |worker: Worker, main: u8| {
            assert_eq!(main, 7);
            worker.ready().await;
        },
    );
    let running = server
        .workers(2)
        .extra("metrics", metrics)
        .extra("sync", |worker: Worker, main: u8| {
            assert_eq!(main, 7);
            worker.stopped_blocking();
        })
        .on_ready({
            let announced = Arc::clone(&announced);
            move |addresses: &Addresses| *announced.lock().unwrap() = Some(addresses.clone())
        })
        .start();
    within(running.ready()).await.expect("it gets ready");
    assert_eq!(announced.lock().unwrap().take(), Some(running.addresses()));
    assert_eq!(running.addresses().iter().count(), 1);
    assert_eq!(left.load(SeqCst), 0);
    assert_eq!(within(running.stop()).await, 0);
    assert_eq!(left.load(SeqCst), 1);
}

/// A value of another type is found out when the extra starts.
#[tokio::test]
async fn an_extra_that_takes_another_main_value_fails() {
    let server = Server::with_main(
        || shared(Arc::default()),
        async |worker: Worker, _main: u8| {
            worker.ready().await;
        },
    );
    let running = server.extra("wrong", |_: Worker, _: String| ()).start();
    assert_eq!(within(running.wait()).await, 1);
    let error = running.ready().await;
    let text = error.map_or_else(|error| error.to_string(), |()| String::new());
    assert!(
        text.is_empty() || text.contains("wrong failed: the main context's value isn't a `"),
        "{text}"
    );
}

#[tokio::test]
async fn an_on_ready_that_panics_ends_nothing() {
    let (say, _heard) = mpsc::unbounded_channel();
    let server = numbers(say).on_ready(|_| panic!("the test's own panic"));
    let (running, address) = started(server).await;
    ask(address).await;
    assert_eq!(within(running.stop()).await, 0);
}

/// Its handlers stay: a server that installed some would take SIGTERM away from the program.
#[test]
fn it_installs_no_signal_handlers() {
    let caught = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("it can be read");
        let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        u64::from_str_radix(line.expect("it is there").trim(), 16).expect("a mask")
    };
    let term_or_hup = 1 << 14 | 1;
    assert_eq!(caught() & term_or_hup, 0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (say, _heard) = mpsc::unbounded_channel();
        let (running, _) = started(numbers(say)).await;
        assert_eq!(caught() & term_or_hup, 0);
        assert_eq!(running.stop().await, 0);
    });
}
