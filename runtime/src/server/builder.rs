//! The server and its options.

#[cfg(feature = "metrics")]
use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

#[cfg(feature = "monitor")]
use super::Door;
use super::job::{Body, Extra, ExtraFn, MainRef, MakeBody, MakeMain, Outcome, main_as, make_main};
use super::supervisor::OnReady;
use super::{Addresses, Isolation, OnFailure, Recycle, Signal, Upgrade, Worker};
#[cfg(feature = "process")]
use super::{
    job::{Decode, MainValue},
    line::wire,
};
use crate::context::{self, Context, Return};

/// A supervised server of several workers: what `#[server]` makes of a function, and a builder of its own.
///
/// ```no_run
/// use aioxide::{Server, Worker};
/// use std::process::ExitCode;
///
/// async fn greet(worker: Worker) -> std::io::Result<()> {
///     let listener = worker.listen("127.0.0.1:8888").await?;
///     let serving = worker.serve(listener, |mut stream| async move {
///         tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello\n").await
///     });
///     let stop = worker.ready().await;
///     serving.drain(&stop).await;
///     Ok(())
/// }
///
/// fn main() -> ExitCode {
///     Server::new(greet).workers(4).run()
/// }
/// ```
#[must_use = "a server does nothing until it is `run` or `start`ed"]
pub struct Server {
    /// As the log has it.
    pub(super) name: String,
    /// By which a process worker finds its run.
    pub(super) key: String,
    pub(super) make: MakeBody,
    pub(super) main: Option<MakeMain>,
    #[cfg(feature = "process")]
    pub(super) decode: Option<Decode>,
    pub(super) workers: Option<usize>,
    pub(super) isolation: Isolation,
    pub(super) extras: Vec<Extra>,
    pub(super) init: Option<Box<dyn FnOnce() + Send>>,
    pub(super) on_ready: Option<OnReady>,
    pub(super) stop_signals: Vec<Signal>,
    pub(super) shutdown_timeout: Duration,
    pub(super) drain_delay: Duration,
    pub(super) start_timeout: Duration,
    pub(super) on_failure: OnFailure,
    pub(super) max_restarts: u32,
    pub(super) restart_window: Duration,
    pub(super) hang_timeout: Option<Duration>,
    pub(super) share_port: bool,
    pub(super) run_to_completion: bool,
    pub(super) roll_overlap: usize,
    #[cfg(feature = "monitor")]
    pub(super) door: Door,
    #[cfg(feature = "monitor")]
    pub(super) health: Option<String>,
    #[cfg(feature = "metrics")]
    pub(super) buckets: BTreeMap<String, Vec<f64>>,
    pub(super) max_connections: Option<usize>,
    pub(super) recycle: Vec<Recycle>,
    pub(super) balance: bool,
    pub(super) upgrade: Upgrade,
    pub(super) upgrade_signal: Option<Signal>,
}

impl Server {
    /// A server whose workers each run `worker`, on an event loop of their own.
    ///
    /// `worker` is cloned for every start, where the worker runs and for one worker at a time. It gets ready by
    /// awaiting [`Worker::ready`], and returns `()` or `Result<(), E>`; its future need not be `Send`.
    pub fn new<F, Fut>(worker: F) -> Server
    where
        F: Fn(Worker) -> Fut + Clone + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Outcome,
    {
        let make = move |_: MainRef<'_>| Body::from_async(worker.clone());
        Server::of::<F>(Arc::new(Mutex::new(make)), None)
    }

    /// A server with a main context: entered, in a thread of its own, before the workers start, and left
    /// after all have ended, with [`Exit::Stopped`](crate::Exit::Stopped). Each worker gets a clone of its
    /// value as its second argument.
    ///
    /// `main` is an `#[actxmgr]` function, or any other that gives a [`Context`]. When it can't be entered,
    /// no worker is started and the exit code is 2.
    pub fn with_main<M, R, F, Fut>(main: M, worker: F) -> Server
    where
        M: FnOnce() -> Context<R> + Send + 'static,
        R: Return<Body: context::Outcome> + 'static,
        R::Value: Clone + Send + 'static,
        F: Fn(Worker, R::Value) -> Fut + Clone + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Outcome,
    {
        Server::of::<F>(
            make_worker::<R::Value, _, _>(worker),
            Some(make_main(main, None)),
        )
    }

    /// As [`with_main`](Server::with_main), with a value that can go to process workers too. What it
    /// serialises to, at most 16 MiB, must be all that there is to it: a database's address, not a connection.
    #[cfg(feature = "process")]
    pub fn with_shared_main<M, R, F, Fut>(main: M, worker: F) -> Server
    where
        M: FnOnce() -> Context<R> + Send + 'static,
        R: Return<Body: context::Outcome> + 'static,
        R::Value: Clone + Send + serde::Serialize + serde::de::DeserializeOwned + 'static,
        F: Fn(Worker, R::Value) -> Fut + Clone + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Outcome,
    {
        let main = make_main(main, Some(encode::<R::Value>));
        let mut server = Server::of::<F>(make_worker::<R::Value, _, _>(worker), Some(main));
        server.decode = Some(decode::<R::Value>);
        server
    }

    fn of<F>(make: MakeBody, main: Option<MakeMain>) -> Server {
        let key = std::any::type_name::<F>();
        Server {
            name: short_name(key).to_owned(),
            key: key.to_owned(),
            make,
            main,
            #[cfg(feature = "process")]
            decode: None,
            workers: None,
            isolation: Isolation::Thread,
            extras: Vec::new(),
            init: None,
            on_ready: None,
            stop_signals: vec![Signal::SIGINT, Signal::SIGTERM],
            shutdown_timeout: Duration::from_secs(25),
            drain_delay: Duration::ZERO,
            start_timeout: Duration::from_secs(60),
            on_failure: OnFailure::Shutdown,
            max_restarts: 10,
            restart_window: Duration::from_secs(60),
            hang_timeout: None,
            share_port: false,
            run_to_completion: false,
            roll_overlap: usize::MAX,
            #[cfg(feature = "monitor")]
            door: Door::default(),
            #[cfg(feature = "monitor")]
            health: None,
            #[cfg(feature = "metrics")]
            buckets: BTreeMap::new(),
            max_connections: None,
            recycle: Vec::new(),
            balance: false,
            upgrade: Upgrade::default(),
            upgrade_signal: Some(Signal::SIGUSR2),
        }
    }

    /// The server's name: in the log, and in the names of its workers' threads or processes, `echo/2` for example, as
    /// `ps` and `top` show them. By default that of its function, or the program's where that is `main`.
    ///
    /// A process worker finds by it which of a program's servers it belongs to. So two that run at the same time need
    /// names of their own if they are made of the same function.
    pub fn name(mut self, name: impl Into<String>) -> Server {
        self.name = name.into();
        self.key.clone_from(&self.name);
        self
    }

    /// The path of the `#[server]` function.
    pub(crate) fn of_function(mut self, path: &'static str) -> Server {
        self.name = short_name(path).to_owned();
        self.key = path.to_owned();
        self
    }

    /// How many workers, at least 1; by default as many as there are cores. `AIOXIDE_WORKERS` in the
    /// environment wins over both. A number that is not allowed is told by [`run`](Server::run),
    /// and the log says at INFO which number it was that won.
    pub fn workers(mut self, workers: usize) -> Server {
        self.workers = Some(workers);
        self
    }

    /// Whether workers are threads, the default, or processes.
    pub fn isolation(mut self, isolation: Isolation) -> Server {
        self.isolation = isolation;
        self
    }

    /// Runs `function` beside the workers, with a thread or process of its own: a router, a metrics exporter. The
    /// log calls it `name`.
    ///
    /// It is `fn(Worker)` or `async fn(Worker)`. With a main context it may take that one's value as its second
    /// argument; in a server without one, or of another type, it then fails when it starts. A synchronous one counts
    /// as ready at start; an asynchronous one once it waits for its stop. The workers start when all extras are ready,
    /// and are stopped before them. An extra that fails is treated as a worker that fails is,
    /// [`on_failure`](Server::on_failure) included; one that returns `Ok` has ended. A rolling restart stops each extra
    /// and starts it again, after the workers.
    ///
    /// ```
    /// use aioxide::{Server, Worker};
    ///
    /// async fn metrics(worker: Worker, port: u16) -> std::io::Result<()> {
    ///     let listener = worker.listen(("127.0.0.1", port)).await?;
    ///     let serving = worker.serve(listener, async |stream| drop(stream));
    ///     let stop = worker.stopping().await;
    ///     serving.drain(&stop).await;
    ///     Ok(())
    /// }
    ///
    /// let port = 9100;
    /// let server = Server::new(async |worker: Worker| drop(worker.ready().await))
    ///     .extra("metrics", move |worker| metrics(worker, port))
    ///     .extra("lookout", |worker: Worker| drop(worker.stopped_blocking()));
    /// # let _ = server;
    /// ```
    pub fn extra<K, F: ExtraFn<K>>(mut self, name: impl Into<String>, function: F) -> Server {
        self.extras.push(Extra::new(name.into(), function));
        self
    }

    /// Runs `function` once in every process of the server, before any runtime is there: for logging, an
    /// allocator, affinity.
    pub fn init(mut self, function: impl FnOnce() + Send + 'static) -> Server {
        self.init = Some(Box::new(function));
        self
    }

    /// Calls `function` once, in the supervisor, when all workers and extras are ready: to write a file with the port,
    /// to register a service.
    ///
    /// The supervisor does nothing else meanwhile, so it must not block. A panic of it is logged at ERROR, and the
    /// server goes on.
    ///
    /// ```
    /// use aioxide::{Addresses, Server, Worker};
    ///
    /// fn announce(addresses: &Addresses) {
    ///     println!("listening on {addresses}");
    /// }
    ///
    /// let server = Server::new(async |worker: Worker| drop(worker.ready().await)).on_ready(announce);
    /// # let _ = server;
    /// ```
    pub fn on_ready(mut self, function: impl FnOnce(&Addresses) + Send + 'static) -> Server {
        self.on_ready = Some(Box::new(function));
        self
    }

    /// Which signals stop the server; SIGINT and SIGTERM by default. The first one seen is told to every
    /// teardown. One that no program can handle, SIGKILL for example, is refused by [`run`](Server::run), and so is
    /// none at all.
    pub fn stop_signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Server {
        self.stop_signals = signals.into_iter().collect();
        self
    }

    /// The one budget of time from the first stop signal to the end; 25 s by default, as Kubernetes kills
    /// after 30 s. Workers, extras and the main context share it; a worker that is stopped alone, in a rolling
    /// restart for example, has it to itself.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Server {
        self.shutdown_timeout = timeout;
        self
    }

    /// For how long a server that is asked to stop serves on as before, so that a load balancer can take it out; not at all
    /// by default. The delay is part of the [`shutdown_timeout`](Server::shutdown_timeout) and must be less, else
    /// [`run`](Server::run) refuses it.
    ///
    /// From the first stop signal on, or the request of [`Running::stop`](crate::Running::stop), the server is *going*:
    /// [`Worker::is_going`] and [`Worker::going`] say so, and nothing else changes. A worker that crashes is restarted with
    /// [`OnFailure::Restart`], and stops the server at once with [`OnFailure::Shutdown`]. A rolling restart is given up, and
    /// neither one nor a change of the number of workers is begun. When the delay is over, the stop begins as it does
    /// without one. A second stop signal, more than 500 ms after the first, begins it at once, and a third forces
    /// the end. A server that has never been ready has no delay.
    ///
    /// ```
    /// # use aioxide::{Server, Worker};
    /// # use std::time::Duration;
    /// # async fn greet(worker: Worker) {}
    /// let server = Server::new(greet).drain_delay(Duration::from_secs(5));
    /// ```
    pub fn drain_delay(mut self, delay: Duration) -> Server {
        self.drain_delay = delay;
        self
    }

    /// By when a worker that isn't ready has failed to start, counted from its start; 60 s by default.
    pub fn start_timeout(mut self, timeout: Duration) -> Server {
        self.start_timeout = timeout;
        self
    }

    /// What happens when a worker fails that was ready; [`OnFailure::Shutdown`] by default. One that fails before it was
    /// ready stops the server with exit code 1, except with [`OnFailure::Ignore`]. One that is added to a running server
    /// and fails to start changes nothing.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Server {
        self.on_failure = on_failure;
        self
    }

    /// With [`OnFailure::Restart`]: how often a worker may fail within the
    /// [`restart_window`](Server::restart_window) before the server gives up; 10 by default. With 0 the first
    /// failure is the end.
    pub fn max_restarts(mut self, restarts: u32) -> Server {
        self.max_restarts = restarts;
        self
    }

    /// With [`OnFailure::Restart`]: for how long a failure is remembered; 60 s by default.
    pub fn restart_window(mut self, window: Duration) -> Server {
        self.restart_window = window;
        self
    }

    /// After how long a blocked event loop is a failure of its process worker; never by default. A loop that
    /// is blocked for 5 s is always reported. Loops are looked after every second, and with a timeout below 2 s twice
    /// within that, so that a hang is noticed within twice the timeout at the latest.
    pub fn hang_timeout(mut self, timeout: Duration) -> Server {
        self.hang_timeout = Some(timeout);
        self
    }

    /// Whether other servers of the same user may listen on the same addresses; not by default.
    pub fn share_port(mut self, share: bool) -> Server {
        self.share_port = share;
        self
    }

    /// Whether the workers run to their own end instead of to a signal: yields return at once, and the
    /// server ends when all workers have. Not by default. A worker that fails doesn't cut the others short: the server
    /// ends with its exit code when they have ended.
    pub fn run_to_completion(mut self, to_completion: bool) -> Server {
        self.run_to_completion = to_completion;
        self
    }

    /// How many workers that have a successor may drain at once in a rolling restart; all of them by default, so that
    /// a restart takes the time of one drain. With 1 the next worker is replaced once the one before is gone, for
    /// servers that can't afford the memory of many. 0 is refused by [`run`](Server::run).
    ///
    /// ```
    /// # use aioxide::{Server, Worker};
    /// # async fn greet(worker: Worker) {}
    /// let server = Server::new(greet).workers(8).roll_overlap(2);
    /// ```
    pub fn roll_overlap(mut self, workers: usize) -> Server {
        self.roll_overlap = workers;
        self
    }

    /// How many connections of [`Worker::serve`] and `Worker::serve_http` a worker may have open at once; any number by
    /// default. While that many are open the worker accepts no more. Its siblings accept in its place, from tokio's TCP
    /// listeners; only when all are full do new connections wait, in the kernel's backlog. 0 is refused by
    /// [`run`](Server::run). Extras have no limit.
    ///
    /// ```
    /// # use aioxide::{Server, Worker};
    /// # async fn greet(worker: Worker) {}
    /// let server = Server::new(greet).workers(4).max_connections(10_000);
    /// ```
    pub fn max_connections(mut self, connections: usize) -> Server {
        self.max_connections = Some(connections);
        self
    }

    /// Opens a door into the running server for its operator: a Unix socket that only the server's user and root may
    /// connect to, with `nc -U`, `curl --unix-socket` or the command `aioxide`. Without it, by default, there is none.
    ///
    /// With `true` it is `aioxide-<executable>-<pid>.sock` in the first folder of `RUNTIME_DIRECTORY`, else in
    /// `XDG_RUNTIME_DIR`, else in `/tmp/aioxide-<uid>/`; with a path it is there. `AIOXIDE_MONITOR` in the environment
    /// wins over both: a path, or nothing for no door. A door that can't be opened is logged at WARN, and the server
    /// runs. [`guide::monitor`](crate::guide::monitor) says what it is good for.
    ///
    /// ```
    /// # use aioxide::{Server, Worker};
    /// # async fn greet(worker: Worker) {}
    /// let server = Server::new(greet).monitor(true);
    /// let server = Server::new(greet).monitor("/run/greet/monitor.sock");
    /// ```
    #[cfg(feature = "monitor")]
    pub fn monitor(mut self, door: impl Into<Door>) -> Server {
        self.door = door.into();
        self
    }

    /// Answers health checks over HTTP on this TCP address, `0.0.0.0:9090` for example: `/livez`, `/readyz` and
    /// `/metrics`, and nothing else. By default there are none.
    ///
    /// `/readyz` is 200 when the server was ready once, at least one worker is ready, and it isn't stopping; `/livez`
    /// while the supervisor answers and not all event loops are blocked. They are 503 otherwise, with a line that says
    /// why. `AIOXIDE_HEALTH` in the environment wins: an address, or nothing for no health checks. An address that can't
    /// be listened on is logged at WARN, and the server runs.
    ///
    /// ```
    /// # use aioxide::{Server, Worker};
    /// # async fn greet(worker: Worker) {}
    /// let server = Server::new(greet).health("0.0.0.0:9090");
    /// ```
    #[cfg(feature = "monitor")]
    pub fn health(mut self, address: impl Into<String>) -> Server {
        self.health = Some(address.into());
        self
    }

    /// The upper bounds of the buckets of the histogram `name`, of those that the program records by `histogram!` of the
    /// crate `metrics`. By default they are those of Prometheus' own clients, 0.005 to 10.
    ///
    /// With the feature `metrics` the server is the recorder of `metrics` in each of its processes: `counter!("orders")`,
    /// `gauge!` and `histogram!` count in the worker that calls them, and each worker is a series of `/metrics`, with its
    /// index as the label `worker`. Counters and histograms go on when a worker is started again. A worker may have 10,000
    /// series; what is recorded outside of workers, or once there is another recorder, isn't counted here.
    ///
    /// # Panics
    ///
    /// If there are none, one isn't finite, or they don't ascend.
    ///
    /// ```
    /// # use aioxide::{Server, Worker};
    /// # async fn greet(worker: Worker) {}
    /// let server = Server::new(greet)
    ///     .health("0.0.0.0:9090")
    ///     .buckets("request_seconds", [0.001, 0.01, 0.1, 1.0]);
    /// ```
    #[cfg(feature = "metrics")]
    #[track_caller]
    pub fn buckets(
        mut self,
        name: impl Into<String>,
        bounds: impl IntoIterator<Item = f64>,
    ) -> Server {
        let (name, bounds) = (name.into(), Vec::from_iter(bounds));
        let ascend = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(
            !bounds.is_empty() && ascend && bounds.iter().all(|bound| bound.is_finite()),
            "the buckets of `{name}` are {bounds:?}: give finite bounds that ascend, without the infinite one"
        );
        self.buckets.insert(name, bounds);
        self
    }

    /// Whether thread workers have the same number of connections of [`Worker::serve`] and `Worker::serve_http` open, at each
    /// address; not by default.
    ///
    /// The kernel spreads connections by a hash of their addresses, which is even for many. Few that last, of a database or of
    /// WebSocket for example, may well fall on the same worker while another has none. With this, a worker that accepts one
    /// while it has more open than another hands it to the one that has the fewest, so that they differ by one at most as
    /// long as connections are opened: 16 on 4 workers are 4, 4, 4 and 4. A connection that is handed over costs a few
    /// microseconds more.
    ///
    /// It works with tokio's TCP and Unix listeners. Process workers can't: [`run`](Server::run) refuses it for them. Workers
    /// that are blocked, or at [`max_connections`](Server::max_connections), are handed none, and extras take no part.
    ///
    /// ```
    /// # use aioxide::{Server, Worker};
    /// # async fn greet(worker: Worker) {}
    /// let server = Server::new(greet).workers(4).balance(true);
    /// ```
    pub fn balance(mut self, balance: bool) -> Server {
        self.balance = balance;
        self
    }

    /// When workers are replaced although nothing is wrong with them; never by default. The first of several limits that is
    /// reached counts.
    ///
    /// Such a worker is rolled as by SIGHUP, one at a time, but to the executable that it runs: no connection is lost, and
    /// there are never fewer ready workers. It is no failure, and the log says why it was done. No worker is replaced before
    /// it was ready for 60 s. If the successor fails to start, the worker stays, and it is tried again after a backoff, as
    /// that of restarts. Extras are left alone, and so is a server that runs to completion.
    ///
    /// ```
    /// # use aioxide::{Recycle, Server, Worker};
    /// # use std::time::Duration;
    /// # async fn greet(worker: Worker) {}
    /// let hour = Duration::from_secs(60 * 60);
    /// let server = Server::new(greet).recycle([Recycle::after(hour), Recycle::after_connections(100_000)]);
    /// ```
    pub fn recycle(mut self, when: impl IntoIterator<Item = Recycle>) -> Server {
        self.recycle.extend(when);
        self
    }

    /// Whether the supervisor may be replaced by what is on disk also where nobody is told of the new pid; only under
    /// systemd, `NOTIFY_SOCKET` set, by default.
    ///
    /// On the [`upgrade_signal`](Server::upgrade_signal), or the command `aioxide upgrade`, the new executable is started
    /// and takes over all listening sockets. When all of its workers are ready, those of the old supervisor are stopped
    /// as in a rolling restart, and it ends with 0: no connection is lost. If the new one fails, or isn't ready within the
    /// [`start_timeout`](Server::start_timeout), the old one serves on. The main context is entered anew while the old one
    /// is still held, and extras run beside the old ones. [`guide::production`](crate::guide::production) says more.
    ///
    /// The new supervisor has another pid. Under init scripts, `docker --init`, runit or a shell the end of the old pid is
    /// the end of all, so it is refused there, and with a controlling terminal anyway. With [`Upgrade::NewPid`] the program
    /// says that nobody waits for its pid. It needs the feature `process`.
    ///
    /// ```
    /// # use aioxide::{Server, Upgrade, Worker};
    /// # async fn greet(worker: Worker) {}
    /// let server = Server::new(greet).upgrade(Upgrade::NewPid);
    /// ```
    pub fn upgrade(mut self, upgrade: Upgrade) -> Server {
        self.upgrade = upgrade;
        self
    }

    /// Which signal has the supervisor replaced by what is on disk, see [`upgrade`](Server::upgrade); SIGUSR2 by default.
    /// With `None` no signal does, and SIGUSR2 is the program's own. One that is a [stop signal](Server::stop_signals)
    /// too, or that means something else here already, keeps its other meaning.
    ///
    /// ```
    /// # use aioxide::{Server, Worker};
    /// # async fn greet(worker: Worker) {}
    /// let server = Server::new(greet).upgrade_signal(None);
    /// ```
    pub fn upgrade_signal(mut self, signal: Option<Signal>) -> Server {
        self.upgrade_signal = signal;
        self
    }
}

/// What the path of a function is called for short, the program where that says little.
fn short_name(path: &str) -> &str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    let is_name = |part: &&str| !part.is_empty() && !part.starts_with(['{', '<']);
    match path.rsplit("::").find(is_name) {
        Some("main") | None => PROGRAM.get_or_init(|| {
            let arg0 = env::args_os().next().unwrap_or_default();
            let file = Path::new(&arg0).file_name().unwrap_or_default();
            file.to_string_lossy().into_owned()
        }),
        Some(name) => name,
    }
}

fn make_worker<V, F, Fut>(worker: F) -> MakeBody
where
    V: Clone + Send + 'static,
    F: Fn(Worker, V) -> Fut + Clone + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Outcome,
{
    Arc::new(Mutex::new(move |main: MainRef<'_>| {
        let value = main_as::<V>(main);
        let worker = worker.clone();
        Body::from_async(async move |handle| worker(handle, value?).await.outcome())
    }))
}

#[cfg(feature = "process")]
fn encode<V: serde::Serialize>(value: &V) -> Result<std::sync::Arc<[u8]>, String> {
    wire::encode_main(value)
        .map_err(|error| format!("its value can't be sent to process workers: {error}"))
}

#[cfg(feature = "process")]
fn decode<V: serde::de::DeserializeOwned + Send + 'static>(
    bytes: &[u8],
) -> Result<MainValue, String> {
    match wire::decode_main::<V>(bytes) {
        Ok(value) => Ok(MainValue {
            value: Arc::new(Mutex::new(value)),
            encoded: None,
        }),
        Err(error) => Err(format!(
            "the main context's value can't be decoded: {error}"
        )),
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("workers", &self.workers)
            .field("isolation", &self.isolation)
            .field("on_failure", &self.on_failure)
            .finish_non_exhaustive()
    }
}
