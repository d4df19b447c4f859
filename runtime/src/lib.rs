#![doc = include_str!("guide/pictures/server.md")]
#![doc = include_str!("guide/pictures/comparison.md")]
#![doc = include_str!("guide/pictures/page-light.md")]
#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! | you want to | it is here |
//! | --- | --- |
//! | set up, and tear down whatever happens | [`#[actxmgr]`](macro@actxmgr), [`Context`], [`Guard`], [`Exit`] |
//! | enter many at once, or choose at run time | [`group`], [`ExitStack`] |
//! | know what is promised about all that | [`guide::cancellation`] |
//! | wait for the teardown of dropped guards, hear of their errors | [`settle`], [`drain`], [`teardown`] |
//! | run tasks that don't outlive their caller | [`scope()`](scope()), [`Scope`], [`ScopedTask`], [`Restart`], [`guide::scopes`] |
//! | run workers until a signal | [`#[server]`](macro@server), [`Worker`], [`Serving`], [`Stop`] |
//! | choose at run time what the attribute fixes | [`Server`] |
//! | test a server, or embed it in a program | [`Server::start`], [`Running`], [`Addresses`], [`guide::testing`] |
//! | deploy it | [`guide::production`], `guide::cluster` |
//! | serve HTTP, TLS, gRPC, WebSocket | `Worker::serve_http`, `guide::http` |
//! | look into it while it runs | `guide::monitor` |
//! | do something periodically | [`#[timer]`](macro@timer), [`Timer`], [`Tick`], [`Overlap`], [`Missed`] |
//! | do it in one process of a cluster only | [`Lease`], [`lease`] |
//! | look up a name of Python's aiotools | [`guide::coming_from_aiotools`] |
//!
//! # Features
//!
//! | feature | default | what |
//! | --- | --- | --- |
//! | `server` | yes | supervised servers of thread workers |
//! | `process` | yes | process workers |
//! | `timer` | yes | periodic tasks |
//! | `scope` | yes | scopes of tasks |
//! | `calendar` | no | timers by the calendar: `cron`, `Timer::calendar` |
//! | `lease-file`, `lease-postgres`, `lease-etcd` | no | stores for [`lease`]: locked files, PostgreSQL, etcd (needs `protoc` to build) |
//! | `http` | no | HTTP/1.1 and HTTP/2 on hyper: [`Worker::serve_http`], `http` |
//! | `axum` | no | axum's `ConnectInfo` for what `serve_http` serves |
//! | `monitor` | no | a door for the operator, health checks and metrics: `monitor`, `health` of `#[server]` |
//! | `cli` | no | the command `aioxide`, which finds running servers |
//! | `logging` | no | a log that names the worker: `logging::init`, and its parts |
//!
//! Contexts need none of them.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "scope", feature = "server"))]
mod backoff;
#[cfg(feature = "monitor")]
mod census;
pub mod context;
pub mod guide;
#[cfg(feature = "logging")]
pub mod logging;
mod panic;
mod report;
pub mod teardown;

#[cfg(feature = "scope")]
mod scope;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "timer")]
mod timer;

#[doc(hidden)]
pub mod __private;

/// Turns an async function with one `yield_(value).await` into a context manager: setup before the yield,
/// teardown after it, which runs whether the caller returns, fails, panics or is cancelled.
///
/// ```
/// use std::io;
/// use aioxide::actxmgr;
/// # #[derive(Debug)] struct Connection(String);
/// # impl Connection {
/// #     async fn open(url: &str) -> io::Result<Self> { Ok(Connection(url.to_owned())) }
/// #     async fn ask(&mut self, _: &[u8]) -> io::Result<usize> { Ok(1) }
/// #     async fn close(self, _clean: bool) -> io::Result<()> { Ok(()) }
/// # }
///
/// #[actxmgr]
/// pub async fn connection(url: String) -> io::Result<Connection> {
///     let conn = Connection::open(&url).await?;      // setup
///     let (conn, exit) = yield_(conn).await;         // the caller's body runs here
///     conn.close(exit.is_success()).await            // teardown
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> io::Result<()> {
/// let mut conn = connection("db".into()).await?;     // a Guard: derefs to Connection
/// conn.ask(b"hi").await?;
/// conn.exit().await?;                                // teardown, awaited, errors returned
///
/// let reply = connection("db".into())
///     .with(async |conn| conn.ask(b"hi").await)      // never forgets the teardown
///     .await?;
/// # assert_eq!(reply, 1); Ok(()) }
/// ```
///
/// # The yield
///
/// `yield_` is there without an import. `yield_(value).await` gives the value back with the [`Exit`];
/// `yield_().await` yields `()` and gives the `Exit` alone. There is exactly one, awaited on the spot, in the
/// function's own body: not in a loop, closure, nested function, async block or macro call. A function that
/// succeeds before its yield panics when it is entered; where that shows in the text, it doesn't compile.
///
/// # What it becomes
///
/// `fn connection(url: String) -> Context<io::Result<Connection>>`. A declared type whose name ends in
/// `Result` makes the context fallible: the body ends in `Ok(())`. Any other type `T`, or none, makes it a
/// [`Context`]`<`[`Always`]`<T>>`, whose body ends in `()`. Nothing runs before the context is awaited.
///
/// It goes on free functions, methods (`self`, `self: Arc<Self>`, `&self` with `borrowed`), and trait methods
/// with or without a body; the trait stays object safe. Frame and value have to be `Send + 'static`. Every
/// argument lives until the teardown ends.
///
/// # When the teardown runs
///
/// | what happens | teardown runs | sees |
/// | --- | --- | --- |
/// | `exit()`, or the body of `with` returns | inline, awaited; its error is returned | [`Completed`](Exit::Completed) |
/// | the body returns `Err` | inline, awaited; the body's error is returned, its own is reported | [`Failed`](Exit::Failed) |
/// | the body panics | in `with` inline, then the panic goes on; a guard dropped in unwinding detaches | [`Panicked`](Exit::Panicked) |
/// | guard or `with` dropped (`select!`, timeout, abort, early `?`) | detached | [`Cancelled`](Exit::Cancelled) |
/// | `exit()` or `with` dropped half-way through the teardown | the same half-run teardown goes on, detached | as before |
/// | `enter` dropped before the yield | not at all: local variables are dropped | |
///
/// At most once, always. Exactly once, unless the guard is leaked, the process dies or the runtime is gone.
/// What *detached* means, and in which order, is told in [`teardown`].
///
/// # Options
///
/// `borrowed`: the arguments may borrow. The types are [`BorrowedContext`] and [`BorrowedGuard`]; **a dropped
/// borrowed guard polls its teardown once** and reports it abandoned if that isn't enough, as Rust lets nothing
/// more be done with what is borrowed.
///
/// ```
/// # use aioxide::actxmgr;
/// #[actxmgr(borrowed)]
/// async fn indented(text: &mut String) -> &mut String {
///     let at = text.len();
///     let (text, _exit) = yield_(text).await;
///     let inner = text.split_off(at).replace('\n', "\n  ");
///     text.push_str(&inner);
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let mut text = String::from("list:");
/// indented(&mut text).with(async |text| text.push_str("\none\ntwo")).await;
/// assert_eq!(text, "list:\n  one\n  two");
/// # }
/// ```
///
/// `setup_timeout = 5s`, `teardown_timeout = 10s`: bound the two, the latter also when detached. A length of
/// time is `100ms`, `1.5s`, `1h30m`, `"1h 30m"` or an expression of type `Duration`; the error type needs
/// `From<`[`Elapsed`]`>`, which `io::Error` has. Default: unbounded.
///
/// `finish_setup`: a setup whose caller is gone is finished and torn down, detached, instead of dropped.
///
/// ```
/// # use std::io;
/// # use aioxide::actxmgr;
/// #[actxmgr(setup_timeout = 5s, teardown_timeout = 10s, finish_setup)]
/// async fn lease(host: String) -> io::Result<String> {
///     let (host, _exit) = yield_(host).await;
///     println!("{host} released");
///     Ok(())
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> io::Result<()> {
/// lease("host".into()).await?.exit().await
/// # }
/// ```
///
/// `crate = path`: where aioxide is, if not at `::aioxide`.
///
/// # Compared with
///
/// Python's `contextlib.asynccontextmanager` and aiotools' `actxmgr`, on which it is modelled, lose the rest of
/// a teardown that is cancelled. `scopeguard` runs code on drop, but no async code. `guarden` detaches a
/// deferred block; it has neither an order nor a drain, and setup and teardown are apart.
pub use aioxide_macros::actxmgr;
pub use context::{
    Always, BorrowedContext, BorrowedGuard, Context, Elapsed, Exit, ExitErrors, ExitStack, Guard,
    Return, group,
};
#[cfg(feature = "scope")]
#[doc(hidden)]
pub use scope::Restarting;
#[cfg(feature = "scope")]
pub use scope::{
    ChildError, ChildReturn, Ignore, Restart, RestartRule, Scope, ScopedTask, Together, scope,
};
pub use teardown::{Drained, drain, settle};

/// Turns an async worker function into a supervised server of several workers.
///
/// The function is a worker: one event loop, in a thread or a process of its own. It sets up, says by
/// `yield_().await` that it is ready, is given a [`Stop`] there when it is asked to stop, and returns. Called
/// `main`, it becomes `fn main() -> ExitCode`; by another name it becomes `fn name(arguments..) -> Server`, to
/// be [`run`](Server::run) by a `main` of one's own. Modelled on `start_server` of Python's aiotools.
///
/// ![A supervisor holds the listening sockets and the main context; workers and extras have event loops][server.svg]
///
/// ```no_run
/// use std::{io, process::ExitCode, time::Duration};
/// use aioxide::{Worker, server};
///
/// #[derive(Clone)]
/// struct Config { listen: String, workers: usize }
///
/// #[server(workers = config.workers, on_failure = restart, shutdown_timeout = 10s)]
/// async fn greeter(worker: Worker, config: Config) -> io::Result<()> {
///     let listener = worker.listen(config.listen).await?;
///     let serving = worker.serve(listener, |mut stream| async move {
///         tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello\n").await
///     });
///     let stop = yield_().await;
///     serving.drain(&stop).await;
///     Ok(())
/// }
///
/// fn main() -> ExitCode {
///     greeter(Config { listen: "127.0.0.1:8888".into(), workers: 2 }).run()
/// }
/// ```
///
/// # Arguments
///
/// The first is the [`Worker`]; with `main = path` the second is the main context's value; the others are the
/// caller's, cloned for every start of a worker (`Clone + Send + 'static`). A worker returns `()` or
/// `Result<(), E>`, where `E` converts into `Box<dyn Error + Send + Sync>`. Its future need not be `Send`.
///
/// # The yield
///
/// `yield_()` is provided by the attribute and stands exactly once in the source, also inside a macro. It is an
/// ordinary future of [`Stop`], so that `select!` may wait on it, or axum's
/// `with_graceful_shutdown(async move { yield_().await; })`. The worker is ready when it is first polled, and
/// the server when all workers are.
///
/// # Options
///
/// Values may use the caller's arguments. Lengths of time are `25s`, `1.5s`, `1h30m` or any `Duration`. Each
/// option is a method of [`Server`] too.
///
/// | option | default | meaning |
/// | --- | --- | --- |
/// | `workers = 4` | available parallelism | how many; `AIOXIDE_WORKERS` in the environment wins |
/// | `isolation = process` | `thread` | what a worker is: one of these words, or an expression of type [`Isolation`] |
/// | `main = path` | none | an `#[actxmgr]` function entered before the workers start and left, with [`Exit::Stopped`], after all have ended; each worker gets its value (`Clone`; with processes, or an expression that may say so, `Serialize + DeserializeOwned`). With arguments: `main = database(config.url)` |
/// | `extra = [path, ..]` | none | `fn(Worker)` or `async fn(Worker)` beside the workers, each with a thread or process of its own. With arguments after the worker: `exporter(main, config.port)`, see below |
/// | `init = path` | none | a plain function, once in every process before any runtime |
/// | `on_ready = path` | none | a plain `fn(&Addresses)`, called once in the supervisor when all are ready |
/// | `stop_signals = [SIGINT, SIGTERM]` | those two | which signals stop the server |
/// | `shutdown_timeout = 25s` | 25 s | one budget from the first signal to the end |
/// | `drain_delay = 5s` | none | how long a server that is asked to stop serves on first; part of `shutdown_timeout`, and less |
/// | `start_timeout = 60s` | 60 s | by when a worker must be ready |
/// | `on_failure = restart` | `shutdown` | what happens when a worker fails: `shutdown`, `restart`, `ignore`, or an expression of type [`OnFailure`] |
/// | `max_restarts = 10`, `restart_window = 60s` | those | how often a worker may fail, with `restart`; backoff 100 ms doubling to 10 s |
/// | `hang_timeout = 30s` | off | when a blocked event loop is a failure, of a process; one of 5 s is always reported |
/// | `recycle = after(1h)` | none | when a worker is replaced though nothing is wrong: `after(1h)`, `after_connections(100_000)`, `over(512MiB)`, alone or in a list |
/// | `upgrade = new_pid` | `notified` | lets the supervisor be replaced where nobody is told of the new pid: `notified`, `new_pid`, or an expression of type [`Upgrade`] |
/// | `upgrade_signal = none` | SIGUSR2 | which signal replaces the supervisor: one of those of `stop_signals`, `none`, or an expression of type `Option<Signal>` |
/// | `roll_overlap = 2` | all | how many old workers may drain at once in a rolling restart |
/// | `monitor`, `monitor = "path"` | off | a door for the operator: `nc -U`, `curl --unix-socket` (feature `monitor`) |
/// | `health = "0.0.0.0:9090"` | off | `/livez`, `/readyz` and `/metrics` over HTTP (feature `monitor`) |
/// | `max_connections = 10_000` | any | how many connections of `serve` a worker may have open at once |
/// | `balance` | off | thread workers hand connections of `serve` to the one that has the fewest |
/// | `share_port` | off | other servers may listen on the same address |
/// | `run_to_completion` | off | yields return at once, the server ends when all workers have |
/// | `crate = path` | `::aioxide` | where this library is, under another name |
///
/// # Functions with arguments
///
/// What `main` and `extra` name may be called with arguments: expressions of the caller's arguments or constants. As
/// those they are cloned for every start (`Clone + Send + 'static`). An extra gets its [`Worker`] in front of them, and the main
/// context's value where the word `main` is an argument.
///
/// ```no_run
/// use std::{io, process::ExitCode};
/// use aioxide::{Isolation, Worker, actxmgr, server};
///
/// #[derive(Clone)]
/// struct Config { database: String, metrics: u16, isolation: Isolation }
///
/// #[actxmgr]
/// async fn database(url: String) -> io::Result<String> {
///     println!("migrating {url}");
///     let exit = yield_(url).await;
///     drop(exit);
///     Ok(())
/// }
///
/// async fn metrics(worker: Worker, database: String, port: u16) -> io::Result<()> {
///     let listener = worker.listen(("127.0.0.1", port)).await?;
///     let serving = worker.serve(listener, async |stream| drop(stream));
///     println!("counting the rows of {database}");
///     let stop = worker.stopping().await;
///     serving.drain(&stop).await;
///     Ok(())
/// }
///
/// #[server(
///     isolation = config.isolation,
///     main = database(config.database),
///     extra = [metrics(main, config.metrics)],
/// )]
/// async fn app(worker: Worker, database: String, config: Config) {
///     println!("worker {} uses {database}", worker.index());
///     yield_().await;
/// }
///
/// fn main() -> ExitCode {
///     let database = "postgres://localhost".to_owned();
///     app(Config { database, metrics: 9100, isolation: Isolation::Process }).run()
/// }
/// ```
///
/// # Tests
///
/// A server that is [`start`](Server::start)ed instead of run gives a [`Running`], in a `#[tokio::test]` for example, and
/// many may run in one process.
///
/// # Signals
///
/// A stop signal stops gracefully; another one, more than 500 ms later, at once. SIGHUP restarts the workers
/// one by one without losing a connection, process workers from the executable that is then on disk. SIGUSR1
/// is told to every worker ([`Worker::reloads`]); SIGTTIN and SIGTTOU add and remove a worker.
///
/// # Exit codes
///
/// | code | meaning |
/// | --- | --- |
/// | 0 | graceful |
/// | 1 | a worker failed, or the server could not be started |
/// | 2 | the main context failed |
/// | 3 | the shutdown timeout ran out, and nothing else failed |
/// | 4 | a worker failed more often than `max_restarts` within `restart_window` |
/// | 128 + n | forced by a second signal n: Ctrl-C 130, SIGTERM 143 |
///
#[doc = include_str!("guide/pictures/server.md")]
#[cfg(feature = "server")]
pub use aioxide_macros::server;
#[cfg(feature = "server")]
#[cfg(feature = "http")]
#[doc(inline)]
pub use server::http;
#[cfg(feature = "server")]
pub use server::{
    Addresses, ExtraFn, Going, Isolation, NotReady, OnFailure, Outcome, Recycle, Reloads, Running,
    Server, Serving, Signal, Stop, StopReason, Stopping, Tasks, UnknownChoice, Upgrade, Worker,
    is_worker, worker_index,
};
#[cfg(feature = "server")]
#[cfg(feature = "monitor")]
pub use server::{CommandOutput, Door};

/// Turns an async function into one that starts it as a periodic task, and gives the [`Timer`] of it.
///
/// ```
/// use std::sync::Arc;
/// use aioxide::{Tick, timer};
///
/// struct Peers;
/// # impl Peers { async fn ping(&self, _round: u64) -> std::io::Result<()> { Ok(()) } }
///
/// #[timer(100ms)]
/// async fn heartbeat(tick: Tick, peers: Arc<Peers>) -> std::io::Result<()> {
///     peers.ping(tick.index()).await
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let beat = heartbeat(Arc::new(Peers)); // starts now; arguments are cloned for every tick
/// tokio::time::sleep(std::time::Duration::from_millis(250)).await;
/// beat.stop().await;                     // cancels what runs, and waits for it
/// assert_eq!(beat.stats().completed, 3); // at 0, 100 and 200 ms
/// # }
/// ```
///
/// # The grid
///
/// Tick `k` is due at `start + first + k * interval`, so that a timer never drifts; what shifts a start (jitter,
/// overlap, a late wake-up) never shifts the grid. tokio's clock wakes timers by the millisecond, rounded up.
///
/// # The function
///
/// A leading argument of type [`Tick`] is the timer's to give; the others are given by the caller and cloned for
/// every tick (`Clone + Send + 'static`). It may be a method with `self: Arc<Self>` or `self`, and generic. It
/// returns `()` or `Result<(), E>` with `E: Display`: an `Err` or a panic is logged, counted in [`Timer::stats`],
/// and survived. Ticks are polled in the timer's own task: several run concurrently, not in parallel, and what
/// is to run in parallel has to be spawned. A tick has ended when the detached teardowns of the contexts that were entered
/// in it have: until then it counts as running, for `overlap` as for [`Timer::stop`]. The function that is made of it panics outside a tokio runtime.
///
/// # Options
///
/// Lengths of time are `100ms`, `1.5s`, `1h30m`, `"1h 30m"` (units `ms`, `s`, `m` or `min`, `h`, `d`), or any
/// expression of type `Duration`, which may use the arguments. Each option is a method of [`TimerBuilder`] too.
///
/// | option | default | meaning |
/// | --- | --- | --- |
/// | interval, in first place | needed | the distance of due times, at least 1 ms as a literal |
/// | `after = 1s` | none | in place of the interval: a fixed delay from the end of a tick to the start of the next |
/// | `first = interval` | `now` | when the first tick is due, after the start: `now`, `interval` or a length of time |
/// | `overlap = cancel` | `skip` | what a due tick does while one runs, see below |
/// | `missed = skip` | `coalesce` | what becomes of due times that the timer itself was late for, see below |
/// | `cron = "0 3 * * *"` | none | in place of the interval: due by the calendar, see below |
/// | `zone = "Asia/Seoul"` | `"UTC"` | the time zone of `cron`: an IANA name, `UTC` or `local` |
/// | `jitter = 10ms` | none | shifts each start by a random time in `[0, jitter)`; less than the interval |
/// | `spread = host` | none | shifts all starts by the same part of the jitter, by the host's name |
/// | `phase = random` | none | shifts the whole grid once, by a random time in `[0, interval)` |
/// | `timeout = 5s` | none | a tick that takes longer is dropped, and has failed |
/// | `grace = 1s` | none | how long a tick may clean up after [`Tick::cancelled`], with `overlap = cancel` and [`Timer::stop`] |
/// | `single` | | in a server, one worker runs it, see below |
/// | `single = lease` | none | in a cluster, the holder of this [`Lease`] runs it, see below |
/// | `ttl = 5s` | `15s` | for how long the lease is asked for, at least 100 ms |
/// | `delivery = at_most_once` | see below | what counts as having run when another goes on |
/// | `on_error = path` | none | a `fn(&Tick, &TickError)` that is told of each tick that fails, beside the log |
/// | `name = "sweeper"` | the function's name | what logs call the timer, and its lease |
/// | `crate = path` | `::aioxide` | where this library is, under another name |
///
/// With an interval of 100 ms, ticks that take 250 ms, and a stop at 1000 ms:
///
/// ![When ticks run, by overlap policy][overlap.svg]
///
/// | `overlap =` | a due tick, while one runs | ticks start at |
/// | --- | --- | --- |
/// | `skip` | is skipped | 0, 300, 600, 900 |
/// | `allow(2)` | runs beside it, but not more than so many; plain `allow` runs up to 1,024 | 0, 100, 300, 400, 600, 700, 900 |
/// | `wait` | waits, the newest one only | 0, 250, 500, 750 |
/// | `queue(2)` | waits, up to so many, the oldest goes first | 0, 250, 500, 750 |
/// | `cancel` | cancels it and takes its place | 0, 100, 200, .. 900 |
///
/// Due times that passed while no tick was running, several at once because the runtime was stalled or the process
/// stopped, are missed ones: `missed = coalesce` runs the newest and tells [`Tick::missed`], `skip` drops them
/// all, `burst(n)` replays the newest `n`. tokio's clock doesn't count the time for which a machine is suspended on
/// Linux: a grid goes on from where it was, and nothing is missed. A calendar counts it.
///
/// A timer never holds its runtime: after a tick that has taken real time, other tasks have their turn before the next
/// one starts, whatever the policy.
///
/// # By the calendar
///
/// With the feature `calendar`, `cron` takes the place of the interval:
///
/// ```
/// # #[cfg(feature = "calendar")] {
/// use aioxide::{Tick, timer};
///
/// #[timer(cron = "0 3 * * mon-fri", zone = "Asia/Seoul", jitter = 10m, spread = host)]
/// async fn report(tick: Tick) {
///     println!("the report of {}", tick.scheduled_local());
/// }
/// # }
/// ```
///
/// The fields are minute, hour, day of the month, month and weekday, or six with the second in front. A field is `*`, a
/// value, a list `1,15`, a range `1-5`, a step `*/10`; months and weekdays have names, `L` is the last day of the month
/// and `friL` its last Friday, `mon#2` its second Monday. If both day of the month and weekday are given, either will do;
/// if one of them begins with `*`, as `*/2` does, both have to match, as with cron. `@hourly`, `@daily`, `@weekly`,
/// `@monthly` and `@yearly` are names for what they say. Expression and zone are checked when the program is compiled, also
/// for whether the expression ever comes; [`Timer::calendar`] checks them at run time. The zones are those of the tz
/// database that the program was built with.
///
/// Where a clock is put forward or back by less than three hours, it goes as Debian's cron(8): a job at a fixed time
/// that is passed over runs right after the gap, once, and one whose time comes twice runs the first time; one with a `*`
/// or a step in minute or hour runs whenever the clock shows its time. A change of three hours or more is taken for a
/// correction: nothing is made up for.
///
/// The wall clock is looked at once a minute and whenever the timer wakes, so a clock that is set, or a machine that was
/// suspended, moves the next due time. What is passed over is `missed`'s, also when it is a single due time; no due time is
/// started twice when the clock is put back. `overlap`, `jitter`, `timeout`, `grace`, `name` and `single` are as with an
/// interval; `first` and `phase` have no meaning.
///
/// # Once
///
/// A timer in a server of four workers ticks four times. With `single` one worker runs it, and the supervisor says which:
///
/// ```no_run
/// use aioxide::{Worker, server, timer};
///
/// #[timer(1h, single)]
/// async fn remove_expired() {}
///
/// #[server(workers = 4)]
/// async fn main(worker: Worker) {
///     let sweep = remove_expired();
///     let stop = yield_().await;
///     sweep.stop().await;
/// }
/// ```
///
/// When that worker stops, fails or is replaced, or stops the timer, another one gets it after the old one's ticks have
/// ended: never two at once, also in a rolling restart. The grid is the server's, and a handover neither repeats nor drops
/// a due time. Timers of one name exclude each other. Outside a server there is no other, and the timer simply runs.
///
/// `single = lease` makes it one in a cluster, by a [`Lease`] among the arguments: on PostgreSQL, on etcd, on a file of the
/// host, or any of them as a [`BoxLease`](lease::BoxLease). Due times of an interval are then whole intervals since 1970, so
/// that all hosts share them.
///
/// ```
/// use aioxide::{Tick, lease::{BoxLease, MemoryLease}, timer};
///
/// #[timer(1h, single = lease, ttl = 30s, delivery = at_most_once)]
/// async fn bill(tick: Tick, lease: BoxLease) {
///     println!("as of {:?}, under token {:?}", tick.scheduled_at(), tick.token());
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let bill = bill(BoxLease::new(MemoryLease::new()));
/// bill.stop().await;
/// # }
/// ```
///
/// The holder renews the lease at a third of its `ttl`, which it counts from before it asks, on a clock that goes on while
/// the machine is suspended. If it can't renew, ticks that run are [asked to end](Tick::cancelled) and dropped before the
/// lease is over, provided that the runtime turns. What outlives that, on the way to a database for example, is told apart
/// by [`Tick::token`], which grows with every holder. After a [`stop`](Timer::stop) that is awaited another one goes on
/// within 100 ms, after a crash, or when the worker that drops the timer ends at once, within the ttl.
///
/// With `delivery = at_least_once`, the default with a lease, a due time counts as run when its tick has ended: one whose
/// holder died in it runs again, under a newer token. With `at_most_once`, the default of a plain `single`, it counts when
/// its tick starts. What fell due while nobody held the lease is `missed`'s: a nightly job runs when the service is back.
///
/// Modelled on the `GlobalTimer` of Backend.AI, which holds its lock while it sleeps, on ShedLock, and on the leader of Oban;
/// none of them cancels a running job when the lock is lost.
///
#[doc = include_str!("guide/pictures/overlap.md")]
#[cfg(feature = "timer")]
pub use aioxide_macros::timer;
#[cfg(feature = "calendar")]
pub use timer::InvalidCalendar;
#[cfg(feature = "timer")]
#[doc(no_inline)]
pub use timer::lease::Lease;
#[cfg(feature = "timer")]
pub use timer::{
    Delivery, InvalidInterval, Missed, Overlap, Tick, TickError, TickReturn, Timer, TimerBuilder,
    TimerStats, lease,
};
