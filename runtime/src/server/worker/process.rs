//! Workers that are processes: the worker's side.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::control::{Control, Socket};
use super::event_loop;
use super::index::set_process_index;
use super::started::name_process;
use crate::server::job::{Job, Run};
use crate::server::line::wire::{
    Assembly, Assignment, Next, Sender, ToSupervisor, ToWorker, WireError, WorkerEnd, clipped,
};
use crate::server::line::{Ended, Failure, Identity, Line, Role, Told, comm};
use crate::server::signals::Handlers;
use crate::server::stop::after;
use crate::server::watcher::Watcher;
use crate::server::{Isolation, Signal, Stop, StopReason, report};

/// By when a supervisor has told a worker what it is to be.
const ASSIGNMENT: Duration = Duration::from_secs(60);
/// What follows the report of a signal, before the next.
const REPORT_PAUSE: Duration = Duration::from_millis(50);
/// What a worker's last word gets to be read.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Why a process can't be the worker that it was started to be.
#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("its thread `{name}` can't be started: {error}")]
    Thread {
        name: &'static str,
        error: io::Error,
    },
    #[error("it can't handle signals: {0}")]
    Signals(io::Error),
    #[error("it can't be bound to its supervisor's life: {0}")]
    Supervisor(io::Error),
}

/// Runs the one worker that this process is.
pub(crate) fn run(socket: OwnedFd, job: Job, init: Option<Box<dyn FnOnce() + Send>>) -> ExitCode {
    match try_run(socket, job, init) {
        Ok(code) => code,
        Err(error) => {
            report::failure(format_args!(
                "process {} cannot be a worker: {error}",
                std::process::id()
            ));
            ExitCode::FAILURE
        }
    }
}

fn try_run(
    socket: OwnedFd,
    job: Job,
    init: Option<Box<dyn FnOnce() + Send>>,
) -> Result<ExitCode, WorkerError> {
    let mut end = WorkerEnd::new(socket).map_err(WireError::from)?;
    let sender = end.sender();
    sender.send(&ToSupervisor::Hello {
        pid: std::process::id(),
    })?;
    let (assignment, main) = match receive_assignment(&mut end)? {
        Orders::Work(assignment, main) => (assignment, main),
        Orders::Stop => return Ok(last_word(&sender, None, false)?),
        Orders::None => return Ok(ExitCode::FAILURE),
    };

    if let Role::Slot(index) = assignment.role {
        set_process_index(index);
    }
    let name = job.name(assignment.role);
    let comm = comm(&assignment.server, assignment.role, &name);
    name_process(comm.as_bytes());
    if let Some(init) = init {
        if !run_init(init, &end).map_err(WorkerError::Supervisor)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    let stop_signals: Vec<Signal> = assignment
        .stop_signals
        .iter()
        .copied()
        .map(Signal::from_raw)
        .collect();
    let upgrade_signal = assignment.upgrade_signal.map(Signal::from_raw);
    watch_signals(&stop_signals, upgrade_signal, sender.clone())?;
    let socket = Arc::new(Socket::new(sender.clone()));
    let told = Told::default();
    #[cfg(feature = "monitor")]
    let told = if assignment.watched {
        Told::watched()
    } else {
        told
    };
    let told = Arc::new(told);
    let patience = assignment.shutdown_timeout;
    let control = Control {
        name: name.clone(),
        told: Arc::clone(&told),
        socket: Arc::clone(&socket),
        patience,
    };
    spawn_thread("control", move || control.listen(end))?;
    // The user's code, which may hang, from here on.
    let ended = match main.map(|bytes| job.decode(&bytes)).transpose() {
        Ok(value) => {
            let run = Run {
                identity: identity(&assignment, name, comm),
                line: Line::new(move |message| socket.say(message)),
                told,
                start: job.start(assignment.role, value.as_ref()),
                patience,
                watcher: Some(Watcher::default()),
                balanced: None,
            };
            event_loop::run(run, &CancellationToken::new())
        }
        Err(error) => Ended {
            failure: Some(Failure::Error(error)),
            overran: false,
        },
    };

    let Ended { failure, overran } = ended;
    let failure = failure.map(|failure| clipped(failure.to_string()));
    Ok(last_word(&sender, failure, overran)?)
}

fn last_word(
    sender: &Sender,
    failure: Option<String>,
    overran: bool,
) -> Result<ExitCode, WireError> {
    let code = if failure.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    sender.send_last(&ToSupervisor::Ended { failure, overran })?;
    if !sender.finish(Instant::now() + LAST_WORD)? {
        report::failure(format_args!(
            "process {}: the supervisor doesn't listen",
            std::process::id()
        ));
    }
    Ok(code)
}

/// What a supervisor has for a worker to do.
enum Orders {
    /// With the main context's value, if there is one.
    Work(Assignment, Option<Vec<u8>>),
    /// Asked to stop before there was anything to do.
    Stop,
    /// The supervisor is gone.
    None,
}

fn receive_assignment(end: &mut WorkerEnd) -> Result<Orders, WireError> {
    let until = Some(Instant::now() + ASSIGNMENT);
    let mut assignment: Option<Assignment> = None;
    let mut value = Assembly::default();
    loop {
        match (end.next(until)?, assignment.take()) {
            (Next::Message(ToWorker::Hello(given), _), None) => {
                if !given.main {
                    return Ok(Orders::Work(given, None));
                }
                assignment = Some(given);
            }
            (Next::Message(ToWorker::Main { bytes, last }, _), Some(given)) => {
                if let Some(value) = value.add(&bytes, last)? {
                    return Ok(Orders::Work(given, Some(value)));
                }
                assignment = Some(given);
            }
            (Next::Message(ToWorker::Stop { .. }, _), _) => return Ok(Orders::Stop),
            (Next::Closed, _) => return Ok(Orders::None),
            (Next::Message(..), given) => assignment = given,
            (Next::TimedOut, _) => {
                let late =
                    io::Error::new(io::ErrorKind::TimedOut, "the supervisor gave no assignment");
                return Err(late.into());
            }
        }
    }
}

fn identity(assignment: &Assignment, name: String, comm: String) -> Identity {
    let far = after(tokio::time::Instant::now(), Duration::MAX);
    Identity {
        index: assignment.role.index(),
        name,
        comm,
        count: assignment.count,
        generation: assignment.generation,
        isolation: Isolation::Process,
        to_completion: assignment
            .run_to_completion
            .then(|| Stop::new(StopReason::Completed, far)),
        max_connections: assignment.max_connections,
    }
}

/// Reports stop signals to the supervisor and swallows the others, also while the event loop is blocked.
fn watch_signals(
    stop: &[Signal],
    upgrade: Option<Signal>,
    sender: Sender,
) -> Result<(), WorkerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(WorkerError::Signals)?;
    let mut signals = {
        let _entered = runtime.enter();
        Handlers::install(stop, upgrade).map_err(WorkerError::Signals)?
    };
    let stop = stop.to_vec();
    spawn_thread("signals", move || {
        runtime.block_on(async {
            loop {
                let signal = signals.next().await;
                if !stop.contains(&signal) {
                    continue;
                }
                if let Err(error) = sender.send(&ToSupervisor::Signalled(signal.as_raw())) {
                    report::log!(warn, %error, "{signal} could not be reported to the supervisor");
                }
                // However many come, they are no flood; those that come meanwhile are one.
                thread::sleep(REPORT_PAUSE);
            }
        })
    })
}

fn spawn_thread(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<(), WorkerError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(drop)
        .map_err(|error| WorkerError::Thread { name, error })
}

/// While `init` runs nothing else does, not even the thread that listens to the supervisor; so the kernel sees to
/// it that a worker whose supervisor goes meanwhile doesn't stay. False if it is gone already.
fn run_init(init: Box<dyn FnOnce() + Send>, end: &WorkerEnd) -> io::Result<bool> {
    end_with_supervisor(true)?;
    if end.is_closed()? {
        return Ok(false);
    }
    init();
    end_with_supervisor(false)?;
    Ok(true)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn end_with_supervisor(on: bool) -> io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};

    Ok(set_parent_process_death_signal(on.then_some(Signal::KILL))?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn end_with_supervisor(_: bool) -> io::Result<()> {
    Ok(())
}
