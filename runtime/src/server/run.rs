//! Runs a server: in the thread that calls, to its end, or beside the rest of the program.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::balance::Balance;
use super::builder::Server;
use super::job::Job;
#[cfg(feature = "monitor")]
use super::monitor::{About, Monitor, Opened, Options, Recycling};
use super::recycle::Limits;
use super::registry::{self, RunError, Turn};
use super::running::Running;
use super::supervisor::{
    self, Config, GiveUp, Looks, Received, Requests, Seats, Setup, Signals, Supervisor, Systemd,
    Teller,
};
#[cfg(feature = "monitor")]
use super::supervisor::{Entrances, Gate};
use super::worker::event_loop;
use super::{Isolation, report};
#[cfg(feature = "process")]
use super::{
    Upgrade,
    supervisor::{Heir, Origin, Predecessor, Processes, Roles, Upgrader},
    worker::process as worker_process,
};
use crate::backoff;

/// The environment variable that overrides the number of workers.
const WORKERS_VARIABLE: &str = "AIOXIDE_WORKERS";
/// For how long a worker must have been ready before it is recycled.
const RECYCLE_SETTLED: Duration = Duration::from_secs(60);
/// More threads or processes than this are a mistake, not a wish.
const MOST_WORKERS: usize = 65_536;

impl Server {
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
    /// Under systemd (`NOTIFY_SOCKET` is set) the first server that the program runs tells it when it is ready, reloads
    /// and stops, and how it stands, as `sd_notify(3)` has it; the [guide](crate::guide::production) has a unit.
    ///
    /// # Panics
    ///
    /// Inside a tokio runtime, as [`Runtime::block_on`] does: it would block that for as long as the server runs. Use
    /// [`start`](Server::start) there. And if [`init`](Server::init) panics; a panic of a worker, an extra or the
    /// main context is a failure of it.
    #[must_use = "the exit code is `main`'s to return"]
    #[track_caller]
    pub fn run(self) -> ExitCode {
        let is_nested = registry::refuse_nested().is_err();
        if tokio::runtime::Handle::try_current().is_ok() && !is_nested {
            panic!(
                "cannot run a server from within a tokio runtime: `Server::run` blocks the thread until the server \
                 has ended; call it from a plain `fn main`, without `#[tokio::main]`, or use `Server::start` here"
            );
        }
        let name = self.name.clone();
        match self.try_run() {
            Ok(code) => code,
            Err(error) => {
                report::failure(format_args!("`{name}` cannot run: {error}"));
                ExitCode::FAILURE
            }
        }
    }

    /// Starts the server in the background and returns at once: for tests, and for programs that have a runtime, and
    /// signal handlers, of their own.
    ///
    /// It differs from [`run`](Server::run) in this:
    ///
    /// - No signal handlers are installed. [`Running`] stops, reloads and scales the server.
    /// - Workers are threads, whatever [`isolation`](Server::isolation) says.
    /// - It never ends the process: a thread that can't be ended is left, and what would be the exit code comes from
    ///   [`Running::stop`] and [`Running::wait`].
    ///
    /// Many may run in one program. [`init`](Server::init) is called for each, before this returns. A server that
    /// can't be started, because an option isn't allowed for example, is one that has ended with exit code 1;
    /// [`Running::ready`] says why, and so does the log.
    ///
    /// May be called inside a tokio runtime and outside; the server has a thread and a runtime of its own. See
    /// [`Running`] for an example.
    ///
    /// # Panics
    ///
    /// If [`init`](Server::init) does.
    pub fn start(self) -> Running {
        let name = self.name.clone();
        let (requester, requests) = Requests::new(None);
        let (teller, progress) = Teller::new();
        let running = Running::new(name.clone(), requester, progress);
        if let Err(error) = self.try_start(requests, teller.clone()) {
            report::failure(format_args!("`{name}` cannot run: {error}"));
            teller.failed(|| error.to_string());
            teller.ended(1);
        }
        running
    }

    fn try_start(mut self, requests: Requests, teller: Teller) -> Result<(), StartError> {
        registry::refuse_nested()?;
        let workers = self.number_of_workers()?;
        self.check_options(Isolation::Thread)?;
        let (name, late) = (self.name.clone(), teller.clone());
        let give_up: GiveUp = Arc::new(move |code| {
            late.ended(code);
            report::failure(format_args!(
                "`{name}` did not end by its deadline; what still runs of it is abandoned"
            ));
        });
        let runtime = supervisor_runtime()?;
        self.initialise(workers);
        let seats = Seats::threads(self.name.clone(), event_loop::run);
        #[cfg(feature = "monitor")]
        let Opened { monitor, looks, .. } = self.open_monitor(
            Isolation::Thread,
            &mut Entrances::default(),
            &Gate::new(false),
        );
        #[cfg(not(feature = "monitor"))]
        let looks = Looks::default();
        let manager = Manager::default();
        let supervisor = self.supervise(workers, seats, teller.clone(), manager, looks, give_up);
        std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || {
                let code = runtime.block_on(supervisor().run(requests));
                runtime.shutdown_background();
                #[cfg(feature = "monitor")]
                drop(monitor);
                teller.ended(code);
            })
            .map_err(StartError::Thread)?;
        Ok(())
    }

    fn try_run(mut self) -> Result<ExitCode, StartError> {
        registry::refuse_nested()?;
        self.install_recorder();
        let has_processes = self.isolation == Isolation::Process;
        let turn = registry::turn(&self.key, has_processes)?;
        #[cfg(not(feature = "process"))]
        let Turn::Supervisor(registration) = turn;
        #[cfg(feature = "process")]
        let mut registration = match turn {
            Turn::Supervisor(registration) => registration,
            Turn::Worker(socket, _registration) => {
                let init = self.init.take();
                return Ok(worker_process::run(socket, self.into_job(), init));
            }
            Turn::Elsewhere => return Ok(ExitCode::SUCCESS),
        };
        #[cfg(feature = "process")]
        let predecessor = registration.take_predecessor().map(Predecessor::greet);
        #[cfg(feature = "process")]
        let predecessor = predecessor.transpose().map_err(StartError::Predecessor)?;

        let workers = self.number_of_workers()?;
        if self.stop_signals.is_empty() {
            return Err(StartError::NoStopSignal);
        }
        self.check_options(self.isolation)?;
        // Before anything else opens a descriptor, or reads the environment in another thread.
        let received = match registration.is_first() {
            true => supervisor::received(),
            false => Received::default(),
        };
        let runtime = supervisor_runtime()?;
        let entered = runtime.enter();
        let signals = Signals::install(&self.stop_signals, self.upgrade_signal)
            .map_err(StartError::System)?;
        #[cfg(feature = "process")]
        let origin = Origin::at_start();
        let seats = match self.isolation {
            Isolation::Thread => Seats::threads(self.name.clone(), event_loop::run),
            #[cfg(feature = "process")]
            Isolation::Process if self.main.is_some() && self.decode.is_none() => {
                return Err(StartError::MainNotShared);
            }
            #[cfg(feature = "process")]
            Isolation::Process => {
                let run = registration.id();
                let processes = match &origin {
                    Ok(origin) => Processes::new(origin.clone(), run),
                    Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
                };
                let processes = processes.map_err(StartError::System)?;
                let signals = (self.stop_signals.clone(), self.upgrade_signal);
                Seats::processes(self.name.clone(), event_loop::run, processes, signals)
            }
            #[cfg(not(feature = "process"))]
            Isolation::Process => return Err(StartError::NoProcesses),
        };
        drop(entered);
        self.initialise(workers);
        #[cfg(feature = "process")]
        #[cfg_attr(not(feature = "monitor"), expect(unused_mut))]
        let mut heir = match predecessor {
            Some(predecessor) => {
                let roles = Roles::new(self.extras.iter().map(|extra| extra.name.clone()));
                let inherited = runtime.block_on(predecessor.inherit(roles));
                Some(inherited.map_err(StartError::Predecessor)?)
            }
            None => None,
        };

        // Nobody asks but the signals, and nobody watches.
        let (_, requests) = Requests::new(Some(signals));
        let (teller, _) = Teller::new();
        let give_up: GiveUp = Arc::new(|code| std::process::exit(code));
        #[cfg(all(feature = "monitor", feature = "process"))]
        let (mut handed, gate) = match &mut heir {
            Some(heir) => (std::mem::take(&mut heir.entrances), Gate::new(true)),
            None => (Entrances::default(), Gate::new(false)),
        };
        #[cfg(all(feature = "monitor", not(feature = "process")))]
        let (mut handed, gate) = (Entrances::default(), Gate::new(false));
        #[cfg(feature = "monitor")]
        let Opened {
            monitor,
            looks,
            #[cfg(feature = "process")]
            entrances,
            ..
        } = self.open_monitor(self.isolation, &mut handed, &gate);
        #[cfg(all(feature = "monitor", feature = "process"))]
        if let Some(heir) = &mut heir {
            // What is left of it nobody wants here.
            heir.entrances = handed;
        }
        #[cfg(not(feature = "monitor"))]
        let looks = Looks::default();
        // Of several servers the first is the service.
        let in_store = received.in_store.clone();
        let systemd = registration.is_first().then_some(in_store);
        let manager = Manager {
            systemd: systemd.and_then(Systemd::of_environment),
            received,
            #[cfg(feature = "process")]
            upgrader: Some(Upgrader {
                origin,
                new_pid: self.upgrade == Upgrade::NewPid,
                is_first: registration.is_first(),
            }),
            #[cfg(feature = "process")]
            heir,
            #[cfg(all(feature = "monitor", feature = "process"))]
            reception: Some((entrances, gate)),
        };
        let supervisor = self.supervise(workers, seats, teller, manager, looks, give_up);
        let code = runtime.block_on(async { supervisor().run(requests).await });
        runtime.shutdown_background();
        #[cfg(feature = "monitor")]
        drop(monitor);
        drop(registration);
        // The policy's codes are those of the table, which fit.
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }

    /// What gives the supervisor, in the thread in which that is to run.
    fn supervise(
        mut self,
        workers: usize,
        mut seats: Seats,
        teller: Teller,
        manager: Manager,
        looks: Looks,
        give_up: GiveUp,
    ) -> impl FnOnce() -> Supervisor + Send {
        seats.max_connections = self.max_connections;
        seats.balance = self.balance.then(Balance::default);
        let cores = available_parallelism().map_or(1, usize::from);
        let max_workers = workers.max(cores).saturating_mul(4);
        #[cfg(feature = "process")]
        let handed_over = manager.heir.as_ref().and_then(|heir| heir.workers);
        #[cfg(not(feature = "process"))]
        let handed_over = None;
        let config = Config {
            workers: handed_over.map_or(workers, |workers: usize| workers.clamp(1, max_workers)),
            max_workers,
            extra_sync: self
                .extras
                .iter()
                .map(|extra| extra.ready_at_start)
                .collect(),
            has_main: self.main.is_some(),
            can_kill: seats.can_kill(),
            shutdown_timeout: self.shutdown_timeout,
            drain_delay: self.drain_delay,
            start_timeout: self.start_timeout,
            on_failure: self.on_failure,
            max_restarts: self.max_restarts,
            restart_window: self.restart_window,
            run_to_completion: self.run_to_completion,
            roll_overlap: self.roll_overlap,
            recycle_after: Limits::of(&self.recycle).time,
            recycle_settled: RECYCLE_SETTLED,
            jitter: backoff::jitter,
        };
        let setup = Setup {
            share_port: self.share_port,
            hang_timeout: self.hang_timeout,
            on_ready: self.on_ready.take(),
            recycle: Limits::of(&self.recycle),
            seats,
            teller,
            systemd: manager.systemd,
            received: manager.received,
            #[cfg(feature = "process")]
            upgrader: manager.upgrader,
            #[cfg(feature = "process")]
            heir: manager.heir,
            #[cfg(all(feature = "monitor", feature = "process"))]
            reception: manager.reception,
            looks,
            give_up,
        };
        let job = self.into_job();
        move || Supervisor::new(config, job, setup)
    }

    /// Has what the program counts by `metrics` counted in the workers, if it isn't counted elsewhere.
    fn install_recorder(&self) {
        #[cfg(feature = "metrics")]
        if !crate::census::install(&self.buckets) {
            report::log!(
                debug,
                "there is another recorder of `metrics`: the server counts nothing of the program's own"
            );
        }
    }

    /// Lets those in who look into the server, if that is wanted.
    #[cfg(feature = "monitor")]
    fn open_monitor(&self, isolation: Isolation, handed: &mut Entrances, gate: &Gate) -> Opened {
        let seconds = |length: std::time::Duration| length.as_secs_f64();
        let signal = |signal: &super::Signal| signal.to_string();
        let recycle = Limits::of(&self.recycle);
        let about = About {
            name: self.name.clone(),
            isolation,
            options: Options {
                stop_signals: self.stop_signals.iter().map(signal).collect(),
                shutdown_timeout: seconds(self.shutdown_timeout),
                drain_delay: seconds(self.drain_delay),
                start_timeout: seconds(self.start_timeout),
                on_failure: self.on_failure.to_string(),
                max_restarts: self.max_restarts,
                restart_window: seconds(self.restart_window),
                hang_timeout: self.hang_timeout.map(seconds),
                roll_overlap: (self.roll_overlap != usize::MAX).then_some(self.roll_overlap),
                max_connections: self.max_connections,
                balance: self.balance,
                share_port: self.share_port,
                recycle: Recycling {
                    after: recycle.time.map(seconds),
                    connections: recycle.connections,
                    memory: recycle.memory,
                },
                upgrade: self.upgrade.to_string(),
                upgrade_signal: self.upgrade_signal.as_ref().map(signal),
                health: self.health.clone(),
            },
        };
        Monitor::open(about, &self.door, handed, gate)
    }

    /// The user's `init`, and what only a log that it may have installed can tell.
    fn initialise(&mut self, workers: usize) {
        if let Some(init) = self.init.take() {
            init();
        }
        if let Some(given) = self.workers.filter(|given| *given != workers) {
            report::log!(
                info,
                workers,
                given,
                "{WORKERS_VARIABLE}={workers} overrides the {given} workers that the program asks for"
            );
        }
    }

    fn check_options(&self, isolation: Isolation) -> Result<(), StartError> {
        if isolation == Isolation::Thread && Limits::of(&self.recycle).memory.is_some() {
            return Err(StartError::MemoryOfThreads);
        }
        if self.roll_overlap == 0 {
            return Err(StartError::RollOverlap);
        }
        if self.max_connections == Some(0) {
            return Err(StartError::MaxConnections);
        }
        if self.balance && isolation == Isolation::Process {
            return Err(StartError::BalanceOfProcesses);
        }
        let (delay, timeout) = (self.drain_delay, self.shutdown_timeout);
        if !delay.is_zero() && delay >= timeout {
            return Err(StartError::DrainDelay { delay, timeout });
        }
        Ok(())
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
        let cores = || available_parallelism().map_or(1, usize::from);
        let Some(variable) = env::var_os(WORKERS_VARIABLE) else {
            return match self.workers.unwrap_or_else(cores) {
                workers @ 1..=MOST_WORKERS => Ok(workers),
                given => Err(StartError::Workers(given)),
            };
        };
        match variable.to_str().and_then(|text| text.trim().parse().ok()) {
            Some(workers @ 1..=MOST_WORKERS) => Ok(workers),
            _ => Err(StartError::WorkersVariable(
                variable.to_string_lossy().into_owned(),
            )),
        }
    }
}

/// What a service manager has to do with a server.
#[derive(Default)]
struct Manager {
    systemd: Option<Systemd>,
    /// The sockets that it has passed.
    received: Received,
    /// How the supervisor can be replaced.
    #[cfg(feature = "process")]
    upgrader: Option<Upgrader>,
    /// What it has of the one that it replaces.
    #[cfg(feature = "process")]
    heir: Option<Heir>,
    /// Where those come in who look into the server.
    #[cfg(all(feature = "monitor", feature = "process"))]
    reception: Option<(Entrances, Gate)>,
}

fn supervisor_runtime() -> Result<Runtime, StartError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(StartError::System)
}

/// Why a server couldn't be run at all.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the number of workers is {0}; allowed is 1 to {MOST_WORKERS}")]
    Workers(usize),
    #[error("no stop signal is given; at least one is needed")]
    NoStopSignal,
    #[error("`roll_overlap` is 0; allowed is 1 or more")]
    RollOverlap,
    #[error(
        "`drain_delay` is {delay:?}, and `shutdown_timeout`, of which it is a part, {timeout:?}; the delay must be less"
    )]
    DrainDelay { delay: Duration, timeout: Duration },
    #[error("`max_connections` is 0; allowed is 1 or more")]
    MaxConnections,
    #[error(
        "`balance` is for thread workers, and `isolation` is `process`; allowed with it is `isolation = thread`"
    )]
    BalanceOfProcesses,
    #[error("`recycle = over(..)` needs process workers, because threads share their memory")]
    MemoryOfThreads,
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("{WORKERS_VARIABLE} is `{0}`; allowed is a number from 1 to {MOST_WORKERS}")]
    WorkersVariable(String),
    #[cfg(feature = "process")]
    #[error(
        "the main context's value can't go to process workers; build the server with `Server::with_shared_main`, \
         or write `isolation = process` beside `main` in `#[server]`"
    )]
    MainNotShared,
    #[cfg(feature = "process")]
    #[error("it can't take over from the supervisor that it is to replace: {0}")]
    Predecessor(super::line::wire::WireError),
    #[cfg(not(feature = "process"))]
    #[error("process workers need the feature `process` of aioxide")]
    NoProcesses,
    #[error("the supervisor's thread could not be started: {0}")]
    Thread(std::io::Error),
    #[error("{0}")]
    System(std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Worker;

    #[test]
    fn a_roll_in_which_no_worker_may_drain_is_refused() {
        let server = Server::new(async |_: Worker| {}).roll_overlap(0);
        assert!(matches!(server.try_run(), Err(StartError::RollOverlap)));
    }

    #[test]
    fn a_delay_that_leaves_no_time_to_stop_is_refused() {
        let delayed = |secs| {
            let server = Server::new(async |_: Worker| {}).drain_delay(Duration::from_secs(secs));
            server.check_options(Isolation::Thread)
        };
        assert!(matches!(delayed(25), Err(StartError::DrainDelay { .. })));
        assert!(delayed(24).is_ok());
        let none = Server::new(async |_: Worker| {}).shutdown_timeout(Duration::ZERO);
        assert!(none.check_options(Isolation::Thread).is_ok(), "no delay");
    }

    #[test]
    fn the_memory_of_threads_is_no_limit() {
        let over = || Server::new(async |_: Worker| {}).recycle(crate::Recycle::over(1));
        let refused = over().check_options(Isolation::Thread);
        assert!(matches!(refused, Err(StartError::MemoryOfThreads)));
        assert!(over().check_options(Isolation::Process).is_ok());
    }

    #[test]
    fn processes_are_not_balanced() {
        let server = || Server::new(async |_: Worker| {}).balance(true);
        let refused = server().check_options(Isolation::Process).unwrap_err();
        assert!(
            refused.to_string().contains("`isolation = thread`"),
            "{refused}"
        );
        assert!(server().check_options(Isolation::Thread).is_ok());
    }

    #[test]
    fn a_server_whose_workers_may_have_no_connection_is_refused() {
        let server = Server::new(async |_: Worker| {}).max_connections(0);
        assert!(matches!(server.try_run(), Err(StartError::MaxConnections)));
    }

    #[test]
    fn a_server_that_no_signal_stops_is_refused() {
        let server = Server::new(async |_: Worker| {}).stop_signals([]);
        assert!(matches!(server.try_run(), Err(StartError::NoStopSignal)));
    }
}
