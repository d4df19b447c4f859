//! A server that can be looked into: connections, timers, contexts and commands of its own.

use std::cell::RefCell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use aioxide::{Timer, Worker, actxmgr, server};
use aioxide_tests::fixture;
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    #[arg(long, default_value_t = fixture::address().to_string())]
    listen: String,
    /// What the server is called.
    #[arg(long)]
    name: Option<String>,
    /// Where the door is.
    #[arg(long)]
    monitor: Option<String>,
    /// Where the server's health is told.
    #[arg(long)]
    health: Option<String>,
    /// Logs by `logging::init`, instead of the fixtures' own log.
    #[arg(long)]
    own_log: bool,
    /// How long a worker takes to get ready, in milliseconds.
    #[arg(long, default_value_t = 0)]
    slow_start: u64,
    /// How long a worker takes to stop, in milliseconds.
    #[arg(long, default_value_t = 0)]
    slow_stop: u64,
    /// While this file is there, workers fail to start.
    #[arg(long)]
    fails_with: Option<std::path::PathBuf>,
}

#[server]
async fn watched(worker: Worker, options: Options) -> io::Result<()> {
    if options
        .fails_with
        .as_ref()
        .is_some_and(|file| file.exists())
    {
        return Err(io::Error::other("its own mistake"));
    }
    tokio::time::sleep(Duration::from_millis(options.slow_start)).await;
    let listener = worker.listen(options.listen).await?;
    let serving = worker.serve(listener, answer);
    let _beat = Timer::every(Duration::from_millis(20))
        .name("beat")
        .start(async |_| {});
    let hour = Duration::from_secs(3600);
    let _sync = Timer::every(hour)
        .first(hour)
        .name("sync")
        .start(async |_| {});
    let index = worker.index();
    worker.command(
        "up",
        "says it in capitals",
        async move |args: Vec<String>| format!("{} from {index}", args.join(" ").to_uppercase()),
    );
    worker.command("fails", "fails", async |_| Err::<(), _>("its own mistake"));
    worker.command("panics", "panics", async |_| -> () { panic!("asked to") });
    worker.command("hangs", "never ends", async |_| {
        std::future::pending::<()>().await
    });
    worker.command("prints", "prints 10 MB", async |_| {
        "0123456789".repeat(1_000_000)
    });
    let started = Rc::new(RefCell::new(None));
    worker.command("begin", "begins what has no end of its own", {
        let (worker, started) = (worker.clone(), Rc::clone(&started));
        async move |_| {
            let timers = [
                Timer::every(hour).name("hangs").start(async |_| {
                    std::future::pending::<()>().await;
                }),
                Timer::every(hour)
                    .name("fails")
                    .start(async |_| Err::<(), _>("its own mistake")),
                Timer::calendar("0 3 * * *", "Asia/Seoul")
                    .expect("a calendar")
                    .name("nightly")
                    .start(async |_| {}),
            ];
            let child = worker
                .scope()
                .spawn_named("sleeper", std::future::pending::<()>());
            started.replace(Some((timers, child)));
        }
    });
    let crowd = Rc::new(RefCell::new(Vec::new()));
    worker.command("crowd", "begins many tasks with long names", {
        let (worker, crowd) = (worker.clone(), Rc::clone(&crowd));
        async move |_| {
            let name = "x".repeat(330);
            let scope = worker.scope();
            let tasks =
                (0..15_000).map(|_| scope.spawn_named(name.clone(), std::future::pending::<()>()));
            crowd.borrow_mut().extend(tasks);
        }
    });
    worker.command("end", "ends it", async move |_| {
        for task in crowd.borrow_mut().drain(..) {
            task.abort();
        }
        if let Some((_timers, child)) = started.take() {
            child.abort();
        }
    });
    worker.command("say", "logs a detail", async move |_| {
        tracing::debug!("a detail of worker {index}");
    });
    worker.command("release", "lets teardowns end", async |_| {
        RELEASED.add_permits(100);
    });
    let stop = yield_().await;
    tokio::time::sleep(Duration::from_millis(options.slow_stop)).await;
    serving.drain(&stop).await;
    Ok(())
}

static RELEASED: Semaphore = Semaphore::const_new(0);

#[actxmgr]
async fn session() {
    yield_().await;
}

/// Its teardown takes until it is released.
#[actxmgr]
async fn held_up() {
    yield_().await;
    let _released = RELEASED.acquire().await;
}

#[actxmgr]
async fn failing() -> io::Result<()> {
    yield_().await;
    Err(io::Error::other("its own mistake"))
}

/// Counts by the macros of `metrics`.
fn order() {
    metrics::describe_counter!("orders", "Orders that were taken.");
    metrics::counter!("orders", "of" => "tea").increment(2);
    metrics::gauge!("queue").set(1.5);
    metrics::histogram!("order_seconds").record(0.02);
}

/// Does what each byte says: `e` is echoed, `p` panics, `b` blocks the event loop for a while, `c` enters a context that
/// is left with the connection, `d` drops one whose teardown is held up, `f` leaves one that fails, `F` drops it, and `o` counts an
/// order.
async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut entered = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(b'p') => panic!("asked to"),
            Ok(b'b') => std::thread::sleep(Duration::from_secs(7)),
            Ok(byte) => {
                match byte {
                    b'c' => entered.push(session().await),
                    b'd' => drop(held_up().await),
                    b'f' => assert!(failing().await?.exit().await.is_err()),
                    b'F' => drop(failing().await?),
                    b'o' => order(),
                    _ => {}
                }
                stream.write_u8(byte).await?;
            }
            Err(_) => return Ok(()),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.own_log {
        true => aioxide::logging::init(),
        false => fixture::log(),
    }
    let (server, monitor, health) = (
        options.server.clone(),
        options.monitor.clone(),
        options.health.clone(),
    );
    let name = options.name.clone();
    let server = server
        .apply(watched(options))
        .monitor(monitor)
        .buckets("order_seconds", [0.01, 0.1]);
    let server = match name {
        Some(name) => server.name(name),
        None => server,
    };
    match health {
        Some(health) => server.health(health).run(),
        None => server.run(),
    }
}
