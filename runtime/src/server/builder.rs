//! The server and its options.

use std::any::Any;
use std::env;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::available_parallelism;
use std::time::Duration;

use super::job::{Body, Extra, ExtraFn, Job, MakeMain, MakeWorker, Outcome, make_main};
use super::runs::{self, RunError, Turn};
use super::supervisor::{Config, Seats, Setup, Signals, Supervisor};
use super::worker::event_loop;
use super::{Isolation, OnFailure, Signal, Worker, report};
#[cfg(feature = "process")]
use super::{
    job::{Decode, MainValue},
    line::wire,
    supervisor::{Origin, Processes},
    worker::process as worker_process,
};
use crate::context::{self, Context, Return};

/// The environment variable that overrides the number of workers.
const WORKERS_VARIABLE: &str = "AIOXIDE_WORKERS";
/// More threads or processes than this are a mistake, not a wish.
const MOST_WORKERS: usize = 65_536;

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
#[must_use = "a server does nothing until it is `run`"]
pub struct Server {
    /// As the log has it.
    name: String,
    /// By which a process worker finds its run.
    key: String,
    make: MakeWorker,
    main: Option<MakeMain>,
    #[cfg(feature = "process")]
    decode: Option<Decode>,
    workers: Option<usize>,
    isolation: Isolation,
    extras: Vec<Extra>,
    init: Option<Box<dyn FnOnce() + Send>>,
    stop_signals: Vec<Signal>,
    shutdown_timeout: Duration,
    start_timeout: Duration,
    on_failure: OnFailure,
    max_restarts: u32,
    restart_window: Duration,
    hang_timeout: Option<Duration>,
    share_port: bool,
    run_to_completion: bool,
    roll_overlap: usize,
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
        let make = move |_: Option<&(dyn Any + Send)>| Body::from_async(worker.clone());
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

    fn of<F>(make: MakeWorker, main: Option<MakeMain>) -> Server {
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
            stop_signals: vec![Signal::SIGINT, Signal::SIGTERM],
            shutdown_timeout: Duration::from_secs(25),
            start_timeout: Duration::from_secs(60),
            on_failure: OnFailure::Shutdown,
            max_restarts: 10,
            restart_window: Duration::from_secs(60),
            hang_timeout: None,
            share_port: false,
            run_to_completion: false,
            roll_overlap: usize::MAX,
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

    /// The name of the `#[server]` function.
    pub(crate) fn named(mut self, name: &'static str) -> Server {
        self.name = short_name(name).to_owned();
        self
    }

    /// How many workers, at least 1; by default as many as there are cores. `AIOXIDE_WORKERS` in the
    /// environment wins over both. A number that is not allowed is told by [`run`](Server::run).
    pub fn workers(mut self, workers: usize) -> Server {
        self.workers = Some(workers);
        self
    }

    /// Whether workers are threads, the default, or processes.
    pub fn isolation(mut self, isolation: Isolation) -> Server {
        self.isolation = isolation;
        self
    }

    /// Runs `function` beside the workers, with a thread or process of its own: a router, a metrics exporter.
    ///
    /// It is `fn(Worker)` or `async fn(Worker)`. A synchronous one counts as ready at start; an asynchronous
    /// one once it waits for its stop. The workers start when all extras are ready, and are stopped before them. One
    /// that fails is treated as a worker that fails is, [`on_failure`](Server::on_failure) included; one that returns
    /// `Ok` has ended. A rolling restart stops each extra and starts it again, after the workers.
    pub fn extra<K, F: ExtraFn<K>>(mut self, function: F) -> Server {
        self.extras.push(Extra::new(function));
        self
    }

    /// Runs `function` once in every process of the server, before any runtime is there: for logging, an
    /// allocator, affinity.
    pub fn init(mut self, function: impl FnOnce() + Send + 'static) -> Server {
        self.init = Some(Box::new(function));
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

    /// Runs the server to its end. To be returned from `main`, outside any tokio runtime.
    ///
    /// The thread that calls it becomes the supervisor. What goes wrong, up to an option that isn't allowed,
    /// is logged, and written to stderr when no `tracing` subscriber is installed.
    ///
    /// | exit code | meaning |
    /// | --- | --- |
    /// | 0 | graceful |
    /// | 1 | a worker failed, or the server could not be started |
    /// | 2 | the main context failed |
    /// | 3 | the shutdown timeout ran out, and nothing else failed |
    /// | 4 | a worker failed more often than `max_restarts` within `restart_window` |
    /// | 128 + n | forced by a second signal n: Ctrl-C 130, SIGTERM 143 |
    ///
    /// With process workers, the program is started again for each of them and runs up to the same call, where it becomes
    /// the worker and from which it returns when the worker has ended: what stands before and after the call runs in
    /// every worker too, and what stands before must not read stdin. [`is_worker`](crate::is_worker) tells the two
    /// apart.
    ///
    /// A program may run several servers, one after the other or each in a thread of its own. In a process worker the
    /// call that it belongs to is found by the server's [name](Server::name) and by how many of that name were called
    /// before. Calls that are over in the supervisor's process return at once there, with success; those of servers that
    /// run beside the worker's return when the worker has ended. A server can't be run inside a worker of another one.
    ///
    /// # Panics
    ///
    /// If [`init`](Server::init) does. A panic of a worker, an extra or the main context is a failure of it.
    pub fn run(self) -> ExitCode {
        let name = self.name.clone();
        match self.try_run() {
            Ok(code) => code,
            Err(error) => {
                report::failure(format_args!("`{name}` cannot run: {error}"));
                ExitCode::FAILURE
            }
        }
    }

    fn try_run(mut self) -> Result<ExitCode, StartError> {
        runs::refuse_nested()?;
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(StartError::InRuntime);
        }
        let init = self.init.take();
        let is_process = self.isolation == Isolation::Process;
        let running = match runs::turn(&self.key, is_process)? {
            Turn::Supervisor(running) => running,
            #[cfg(feature = "process")]
            Turn::Worker(socket, _running) => {
                return Ok(worker_process::run(socket, self.into_job(), init));
            }
            #[cfg(feature = "process")]
            Turn::Elsewhere => return Ok(ExitCode::SUCCESS),
        };
        #[cfg(not(feature = "process"))]
        if is_process {
            return Err(StartError::NoProcesses);
        }

        let workers = self.number_of_workers()?;
        if self.stop_signals.is_empty() {
            return Err(StartError::NoStopSignal);
        }
        if self.roll_overlap == 0 {
            return Err(StartError::RollOverlap);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::System)?;
        let entered = runtime.enter();
        let signals = Signals::install(&self.stop_signals).map_err(StartError::System)?;
        let setup = Setup {
            share_port: self.share_port,
            hang_timeout: self.hang_timeout,
            seats: Seats {
                server: self.name.clone(),
                carry_out: event_loop::run,
                #[cfg(feature = "process")]
                stop_signals: self.stop_signals.clone(),
                #[cfg(feature = "process")]
                processes: match self.isolation {
                    Isolation::Thread => None,
                    Isolation::Process if self.main.is_some() && self.decode.is_none() => {
                        return Err(StartError::MainNotShared);
                    }
                    Isolation::Process => {
                        let processes = Origin::at_start()
                            .and_then(|origin| Processes::new(origin, running.id()));
                        Some(processes.map_err(StartError::System)?)
                    }
                },
            },
        };
        drop(entered);
        if let Some(init) = init {
            init();
        }

        let cores = available_parallelism().map_or(1, usize::from);
        let config = Config {
            workers,
            max_workers: workers.max(cores).saturating_mul(4),
            extra_sync: self
                .extras
                .iter()
                .map(|extra| extra.ready_at_start)
                .collect(),
            has_main: self.main.is_some(),
            can_kill: is_process,
            shutdown_timeout: self.shutdown_timeout,
            start_timeout: self.start_timeout,
            on_failure: self.on_failure,
            max_restarts: self.max_restarts,
            restart_window: self.restart_window,
            run_to_completion: self.run_to_completion,
            roll_overlap: self.roll_overlap,
            jitter: |delay| delay.mul_f64(1.0 - 0.1 * fastrand::f64()),
        };
        let code = runtime.block_on(Supervisor::new(config, self.into_job(), setup).run(signals));
        runtime.shutdown_background();
        drop(running);
        // The policy's codes are those of the table, which fit.
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }

    fn into_job(self) -> Job {
        Job {
            make: self.make,
            main: self.main,
            extras: self.extras,
            #[cfg(feature = "process")]
            decode: self.decode,
        }
    }

    fn number_of_workers(&self) -> Result<usize, StartError> {
        let workers = match env::var_os(WORKERS_VARIABLE) {
            Some(value) => match value.to_str().and_then(|text| text.trim().parse().ok()) {
                Some(workers) => workers,
                None => {
                    return Err(StartError::WorkersVariable(
                        value.to_string_lossy().into_owned(),
                    ));
                }
            },
            None => match self.workers {
                Some(workers) => workers,
                None => available_parallelism().map_or(1, usize::from),
            },
        };
        match workers {
            1..=MOST_WORKERS => Ok(workers),
            given => Err(StartError::Workers(given)),
        }
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

fn make_worker<V, F, Fut>(worker: F) -> MakeWorker
where
    V: Clone + Send + 'static,
    F: Fn(Worker, V) -> Fut + Clone + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Outcome,
{
    Arc::new(Mutex::new(move |main: Option<&(dyn Any + Send)>| {
        let value = main.and_then(|main| main.downcast_ref::<V>()).cloned();
        let worker = worker.clone();
        Body::from_async(async move |handle| match value {
            Some(value) => worker(handle, value).await.outcome(),
            None => Err("the main context's value is missing".to_owned()),
        })
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
            "the main context's value can't be understood: {error}"
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

/// Why a server couldn't be run at all.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("`Server::run` was called inside a tokio runtime; call it from a plain `fn main`")]
    InRuntime,
    #[error("the number of workers is {0}; allowed is 1 to {MOST_WORKERS}")]
    Workers(usize),
    #[error("no stop signal is given; at least one is needed")]
    NoStopSignal,
    #[error("`roll_overlap` is 0; allowed is 1 or more")]
    RollOverlap,
    #[error("{WORKERS_VARIABLE} is `{0}`; allowed is a number from 1 to {MOST_WORKERS}")]
    WorkersVariable(String),
    #[cfg(feature = "process")]
    #[error(
        "the main context's value can't go to process workers; build the server with `Server::with_shared_main`, \
         or write `isolation = process` beside `main` in `#[server]`"
    )]
    MainNotShared,
    #[cfg(not(feature = "process"))]
    #[error("process workers need the feature `process` of aioxide")]
    NoProcesses,
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("{0}")]
    System(std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_in_which_no_worker_may_drain_is_refused() {
        let server = Server::new(async |_: Worker| {}).roll_overlap(0);
        assert!(matches!(server.try_run(), Err(StartError::RollOverlap)));
    }

    #[test]
    fn a_server_that_no_signal_stops_is_refused() {
        let server = Server::new(async |_: Worker| {}).stop_signals([]);
        assert!(matches!(server.try_run(), Err(StartError::NoStopSignal)));
    }
}
