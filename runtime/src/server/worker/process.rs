//! Workers that are processes: the worker's side.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::server::line::link::{self, Link, Request};
use crate::server::line::wire::{
    Answer, Assembly, Assignment, Attached, Bytes, Next, Sender, ToSupervisor, ToWorker, Wanted,
    WireError, WorkerEnd,
};
use crate::server::stop::{after, without_reserve};
use crate::server::supervisor::driver::Job;
use crate::server::supervisor::image::{self, Started};
use crate::server::supervisor::policy::Role;
use crate::server::supervisor::signals::{Asked, Signals};
use crate::server::worker::event_loop::{self, Ended, Failure};
use crate::server::worker::handle::{Identity, Shared, set_process_index};
use crate::server::{Isolation, Signal, Stop, StopReason, report};

/// By when a supervisor has told a worker what it is to be.
const ASSIGNMENT: Duration = Duration::from_secs(60);
/// What a line of the log gets to be taken, where it may be what a worker's end waits for.
const LOG_LINE: Duration = Duration::from_millis(500);
/// What a worker's last word gets to be read.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What a call of `Server::run` is in this process.
pub(crate) enum Turn {
    /// The call with this number, by the program that the user started.
    Supervisor {
        run: usize,
    },
    Worker(OwnedFd),
    /// In a worker of another call.
    NotMine,
}

/// Finds out what this call of `Server::run` is.
pub(crate) fn turn() -> io::Result<Turn> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    /// Who stdin says that this process is; read once. A worker that has had its turn is nobody any more.
    static STARTED: Mutex<Option<Option<Started>>> = Mutex::new(None);

    let this = RUNS.fetch_add(1, Ordering::Relaxed);
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = match started.take() {
        Some(known) => known,
        None => Some(image::started()?),
    };
    let (turn, left) = match known {
        Some(Started::AsWorker { socket, run }) if run == this => (Turn::Worker(socket), None),
        Some(Started::ByUser) => (Turn::Supervisor { run: this }, Some(Started::ByUser)),
        other => (Turn::NotMine, other),
    };
    *started = Some(left);
    Ok(turn)
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
) -> Result<ExitCode, WireError> {
    let mut end = WorkerEnd::new(socket)?;
    let sender = end.sender();
    sender.send(&ToSupervisor::Hello {
        pid: std::process::id(),
    })?;
    let (assignment, main) = match receive_assignment(&mut end)? {
        Orders::Work(assignment, main) => (assignment, main),
        Orders::Stop => return last_word(&sender, None, false),
        Orders::None => return Ok(ExitCode::FAILURE),
    };

    if let Role::Slot(index) = assignment.role {
        set_process_index(index);
    }
    if let Some(init) = init {
        if !run_init(init, &end)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    let stop_signals: Vec<Signal> = assignment
        .stop_signals
        .iter()
        .copied()
        .map(Signal::from_raw)
        .collect();
    watch_signals(&stop_signals, sender.clone())?;
    let worker = Arc::new(shared(&assignment, &job, sender.clone()));
    let patience = assignment.shutdown_timeout;
    let listening = Arc::clone(&worker);
    thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || listen_to_supervisor(end, &listening, patience))?;
    // The user's code, which may hang, from here on.
    let ended = match main.map(|bytes| job.decode(&bytes)).transpose() {
        Ok(value) => {
            let start = job.start(assignment.role, value.as_ref());
            event_loop::run(&worker, start, patience, &CancellationToken::new())
        }
        Err(error) => Ended {
            failure: Some(Failure::Error(error)),
            overran: false,
        },
    };

    let Ended { failure, overran } = ended;
    let failure = failure.map(|failure| crate::server::line::wire::clipped(failure.to_string()));
    last_word(&sender, failure, overran)
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
    sender.send(&ToSupervisor::Ended { failure, overran })?;
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

fn shared(assignment: &Assignment, job: &Job, sender: Sender) -> Shared {
    let far = after(tokio::time::Instant::now(), Duration::MAX);
    let identity = Identity {
        index: match assignment.role {
            Role::Slot(index) => Some(index),
            Role::Extra(_) => None,
        },
        name: job.name(assignment.role),
        count: assignment.count,
        generation: assignment.generation,
        isolation: Isolation::Process,
        to_completion: assignment
            .run_to_completion
            .then(|| Stop::new(StopReason::Completed, far)),
    };
    Shared::new(identity, Link::Process(ProcessLink::new(sender)))
}

/// Reports stop signals to the supervisor and swallows the others, also while the event loop is blocked.
fn watch_signals(stop: &[Signal], sender: Sender) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::install(stop)?
    };
    let stop = stop.to_vec();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
            loop {
                // A hang-up is the supervisor's business, whatever it would ask for there.
                if let Asked::Stop(signal) = signals.next().await {
                    if !stop.contains(&signal) {
                        continue;
                    }
                    if let Err(error) = sender.send(&ToSupervisor::Signalled(signal.as_raw())) {
                        report::log!(warn, %error, "{signal} could not be reported to the supervisor");
                    }
                }
            }
        })
        })?;
    Ok(())
}

/// Carries out what the supervisor says, for as long as this process lives. On a thread of its own, so that
/// a blocked event loop, or an exit handler that hangs, can't keep a worker whose supervisor is gone.
fn listen_to_supervisor(mut end: WorkerEnd, worker: &Shared, patience: Duration) {
    let failed = loop {
        match end.next(None) {
            Ok(Next::Message(message, attached)) => carry_out(message, attached, worker),
            Ok(Next::Closed) => break None,
            Ok(Next::TimedOut) => {}
            Err(error) => break Some(error),
        }
    };
    // Before anything is said: a log may hold up this thread, and with it the end.
    let now = tokio::time::Instant::now();
    let (told, killed_at) = (after(now, without_reserve(patience)), after(now, patience));
    worker.stop.set(Stop::new(StopReason::SupervisorGone, told));
    if let Link::Process(link) = &worker.link {
        link.abandon();
    }
    if let Some(error) = failed {
        let name = worker.name();
        report::failure_within(
            LOG_LINE.min(patience),
            format!("{name}: the supervisor can't be understood: {error}"),
        );
    }
    thread::sleep(killed_at.saturating_duration_since(tokio::time::Instant::now()));
    let name = worker.name();
    report::failure_within(
        LOG_LINE,
        format!("{name} did not stop after its supervisor was gone: killed"),
    );
    let own = rustix::process::getpid();
    if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::KILL) {
        report::failure(format_args!("{name} cannot kill itself: {error}"));
    }
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

fn carry_out(message: ToWorker, attached: Attached<OwnedFd>, worker: &Shared) {
    match message {
        ToWorker::Stop { reason, left } => {
            let deadline = after(tokio::time::Instant::now(), left);
            worker.stop.set(Stop::new(reason.into(), deadline));
        }
        ToWorker::Tell => worker.reloads.send_modify(|count| *count += 1),
        ToWorker::Ping(number) => worker.ping(number),
        ToWorker::Answer { request, answer } => {
            if let Link::Process(link) = &worker.link {
                link.answered(request, answer, attached);
            }
        }
        ToWorker::Hello(_) | ToWorker::Main { .. } => {
            report::log!(warn, worker = %worker.name(), "the supervisor assigned a worker twice");
        }
    }
}

/// A process worker's line to its supervisor.
pub(crate) struct ProcessLink {
    sender: Sender,
    next: AtomicU64,
    /// Who waits for which answer; none once there will be no more.
    waiting: Mutex<Option<BTreeMap<u64, oneshot::Sender<link::Answer>>>>,
}

impl ProcessLink {
    fn new(sender: Sender) -> ProcessLink {
        ProcessLink {
            sender,
            next: AtomicU64::new(0),
            waiting: Mutex::new(Some(BTreeMap::new())),
        }
    }

    pub(crate) fn ready(&self) {
        self.send(&ToSupervisor::Ready);
    }

    pub(crate) fn ending(&self, failure: Option<Failure>) {
        let failure =
            failure.map(|failure| crate::server::line::wire::clipped(failure.to_string()));
        self.send(&ToSupervisor::Ending { failure });
    }

    pub(crate) fn pong(&self, number: u64) {
        self.send(&ToSupervisor::Pong(number));
    }

    fn send(&self, message: &ToSupervisor) {
        if let Err(error) = self.sender.send(message) {
            // The thread that listens to the supervisor sees the same and acts on it.
            report::log!(debug, %error, "the supervisor can't be told");
        }
    }

    pub(crate) fn request(&self, request: Request, reply: oneshot::Sender<link::Answer>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // Dropping the reply tells that the supervisor is gone.
            let Some(waiting) = &mut *waiting else { return };
            waiting.insert(number, reply);
        }
        if let Err(error) = self.sender.send(&to_message(number, request)) {
            // Nobody else will ever answer.
            if let Some(reply) = self.take(number) {
                let _ = reply.send(Err(io::Error::other(error)));
            }
        }
    }

    fn take(&self, number: u64) -> Option<oneshot::Sender<link::Answer>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut()?.remove(&number)
    }

    fn answered(&self, number: u64, answer: Answer, attached: Attached<OwnedFd>) {
        let Some(reply) = self.take(number) else {
            return;
        };
        let answer = match (answer, attached) {
            (Answer::Refused(refusal), _) => Err(refusal.into()),
            (Answer::Unlistened { .. }, _) => Ok(None),
            (Answer::Socket, Attached::Descriptor(socket)) => Ok(Some(socket)),
            (Answer::Socket, Attached::Lost) => Err(io::Error::other(
                "too many open files: the socket from the supervisor could not be received",
            )),
            (Answer::Socket, Attached::Nothing) => {
                Err(io::Error::other("the supervisor's answer has no socket"))
            }
        };
        // The worker may have given up waiting; the supervisor keeps the socket.
        let _ = reply.send(answer);
    }

    fn abandon(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn to_message(request: u64, asked: Request) -> ToSupervisor {
    let wanted = match asked {
        Request::Listen { asked, addrs } => Wanted::Tcp {
            text: asked,
            addresses: addrs,
        },
        Request::BindUdp { asked, addrs } => Wanted::Udp {
            text: asked,
            addresses: addrs,
        },
        Request::ListenUnix { path, mode } => Wanted::Unix {
            path: Bytes(path.into_os_string().into_vec()),
            mode,
        },
        Request::Unlisten { asked } => {
            return ToSupervisor::Unlisten {
                request,
                text: asked,
            };
        }
    };
    ToSupervisor::Listen { request, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::net::UnixStream;

    #[test]
    fn a_request_that_cannot_be_sent_is_answered() {
        let (_supervisor, socket) = UnixStream::pair().unwrap();
        let link = ProcessLink::new(WorkerEnd::new(socket.into()).unwrap().sender());
        let asked = "x".repeat(100_000);
        let (reply, mut answer) = oneshot::channel();
        link.request(Request::Unlisten { asked }, reply);
        assert!(answer.try_recv().unwrap().is_err());
        assert!(link.waiting.lock().unwrap().as_ref().unwrap().is_empty());
    }
}
