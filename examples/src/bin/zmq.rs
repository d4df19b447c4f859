//! A ZeroMQ pipeline: a router takes messages on TCP and deals them out to the workers over a Unix socket.
//!
//! ```text
//! cargo run --release -p aioxide-examples --features zmq --bin zmq -- --listen 127.0.0.1:5555 --workers 4
//! ```
//!
//! Any client that pushes will do; in Python, with pyzmq:
//!
//! ```text
//! import zmq
//! push = zmq.Context().socket(zmq.PUSH)
//! push.connect("tcp://127.0.0.1:5555")
//! push.send_string("hello")
//! ```
//!
//! Pipelines of ZeroMQ's have no acknowledgements. A message is worked on once at most: one that is in a queue when
//! the server stops, or the worker that it was dealt out to, is lost. The log tells how many were routed and how
//! many worked on.

use std::error::Error;
use std::pin::pin;
use std::process::ExitCode;
use std::thread;

use aioxide::{Isolation, Worker, server};
use clap::Parser;
use tokio::io::unix::AsyncFd;
use tracing::info;
use zmq::{Context, DONTWAIT, POLLIN, POLLOUT, Socket};

/// How many messages wait for a worker, on either side, besides those that the system buffers: few, so that a
/// busy worker is dealt fewer.
const QUEUE: i32 = 10;

/// Works on the messages that it is sent.
#[derive(Clone, Parser)]
struct Options {
    /// Where the router listens: an IP address with a port; port 0 picks a free one.
    #[arg(long, short, default_value = "127.0.0.1:5555")]
    listen: String,
    /// The socket between router and workers: a path that only this server uses.
    #[arg(long, default_value = "/tmp/aioxide-zmq.sock")]
    backend: String,
    /// How many workers.
    #[arg(long, short, default_value_t = 4)]
    workers: usize,
    /// What router and workers are: `thread` or `process`.
    #[arg(long, default_value_t)]
    isolation: Isolation,
}

type Failure = Box<dyn Error + Send + Sync>;

/// Plain, blocking code beside the workers, stopped after them.
fn router(worker: Worker) -> Result<(), Failure> {
    let options = Options::parse();
    let context = Context::new();
    let clients = context.socket(zmq::PULL)?;
    let backend = context.socket(zmq::PUSH)?;
    backend.set_sndhwm(QUEUE)?;
    // When the router is stopped no worker is left to send to.
    backend.set_linger(0)?;
    bind(&clients, &format!("tcp://{}", options.listen))?;
    bind(&backend, &format!("ipc://{}", options.backend))?;

    let stopped = context.socket(zmq::PAIR)?;
    stopped.bind("inproc://stopped")?;
    let stop = context.socket(zmq::PAIR)?;
    stop.connect("inproc://stopped")?;
    let waiting = thread::spawn(move || {
        worker.stopped_blocking();
        stop.send("", 0)
    });

    let address = clients.get_last_endpoint()?.map_err(|_| "no address")?;
    let address = address.trim_start_matches("tcp://");
    info!("the router is ready, listening on {address}");
    let routed = route(&clients, &backend, &stopped);
    // ZeroMQ leaves it.
    std::fs::remove_file(&options.backend)?;
    let routed = routed?;
    info!(routed, "the router has ended");
    waiting
        .join()
        .map_err(|_| "the stop was not waited for")??;
    Ok(())
}

fn bind(socket: &Socket, endpoint: &str) -> Result<(), String> {
    socket
        .bind(endpoint)
        .map_err(|error| format!("cannot listen on {endpoint}: {error}"))
}

/// Passes messages on until something arrives at `stopped`; tells how many.
fn route(clients: &Socket, backend: &Socket, stopped: &Socket) -> zmq::Result<u64> {
    let mut routed = 0;
    loop {
        // Takes no message before a worker has room for it: the clients keep them meanwhile.
        if !wait(backend, POLLOUT, stopped)? || !wait(clients, POLLIN, stopped)? {
            return Ok(routed);
        }
        let message = clients.recv_multipart(0)?;
        // The worker that had room may be gone by now, and no other may have any.
        while let Err(error) = backend.send_multipart(&message, DONTWAIT) {
            if error != zmq::Error::EAGAIN {
                return Err(error);
            }
            if !wait(backend, POLLOUT, stopped)? {
                return Ok(routed);
            }
        }
        routed += 1;
    }
}

/// Blocks until `socket` can do what is asked; not when something arrived at `stopped`.
fn wait(socket: &Socket, events: zmq::PollEvents, stopped: &Socket) -> zmq::Result<bool> {
    let mut items = [socket.as_poll_item(events), stopped.as_poll_item(POLLIN)];
    while let Err(error) = zmq::poll(&mut items, -1) {
        if error != zmq::Error::EINTR {
            return Err(error);
        }
    }
    Ok(!items[1].is_readable())
}

#[server(workers = options.workers, extra = [router])]
async fn pipeline(worker: Worker, options: Options) -> Result<(), Failure> {
    let jobs = Context::new().socket(zmq::PULL)?;
    jobs.set_rcvhwm(QUEUE)?;
    jobs.connect(&format!("ipc://{}", options.backend))?;
    // Asks that the descriptor stays open while it is watched: it is closed when the socket is dropped.
    #[allow(deprecated)]
    let jobs = AsyncFd::new(jobs)?;

    let mut worked = 0;
    let mut stopping = pin!(yield_());
    let stop = loop {
        tokio::select! {
            biased;
            stop = &mut stopping => break stop,
            // Safe to drop half-way: a message is taken only when it is given back.
            job = receive(&jobs) => work(worker.index(), job?).await,
        }
        worked += 1;
    };
    info!(worker = worker.index(), worked, "torn down: {stop}");
    Ok(())
}

/// The next message.
async fn receive(jobs: &AsyncFd<Socket>) -> Result<Vec<Vec<u8>>, Failure> {
    loop {
        match jobs.get_ref().recv_multipart(DONTWAIT) {
            Err(zmq::Error::EAGAIN) => {}
            received => return Ok(received?),
        }
        // The descriptor tells once that there may be something, not how much: it is waited on only when
        // nothing was left.
        jobs.readable().await?.clear_ready();
    }
}

/// Stands for work, which must let others on the event loop have their turn.
async fn work(worker: usize, job: Vec<Vec<u8>>) {
    info!(
        worker,
        "worked on {}",
        String::from_utf8_lossy(&job.concat())
    );
    tokio::task::yield_now().await;
}

fn main() -> ExitCode {
    let options = Options::parse();
    let isolation = options.isolation;
    aioxide::logging::init();
    pipeline(options).isolation(isolation).run()
}
