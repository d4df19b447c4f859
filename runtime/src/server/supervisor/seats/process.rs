//! Workers that are processes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::allowance::Allowance;
use super::child::{Killer, Process};
use crate::server::line::role_variable::{Role, RunId};
use crate::server::line::wire::{
    Answer, Assignment, Refusal, SupervisorEnd, ToSupervisor, ToWorker, Wanted, WireError,
};
use crate::server::line::{self, Ended, Failure, Loan, Message, Request};
#[cfg(feature = "monitor")]
use crate::server::line::{LONGEST_ANSWER, Query, wire::Bytes};
#[cfg(feature = "timer")]
use crate::server::line::{Reply, SingleAnswer};
use crate::server::stop::sleep_until;
use crate::server::supervisor::image::{self, Origin};
use crate::server::supervisor::inbox::Input;
use crate::server::supervisor::policy::{Image, WorkerId};
use crate::server::{Signal, Stop, registry, report};

/// What a process that has ended may still have in its socket is there at once.
const LAST_MESSAGES: Duration = Duration::from_secs(1);

/// How many messages of a worker may wait for the supervisor.
const ROOM: usize = 4;
/// How many requests of a worker may wait for their answers.
const MOST_REQUESTS: usize = 64;

/// Starts processes, each of the version of the executable that it is to be.
pub(crate) struct Processes {
    origin: Origin,
    /// The call of `run` that the processes are to find.
    run: RunId,
    images: BTreeMap<Image, image::Image>,
}

impl Processes {
    pub(crate) fn new(origin: Origin, run: RunId) -> io::Result<Processes> {
        let images = BTreeMap::from([(Image(0), origin.current()?)]);
        Ok(Processes {
            origin,
            run,
            images,
        })
    }

    /// Must be called in a runtime.
    pub(crate) fn spawn(
        &mut self,
        id: WorkerId,
        image: Image,
        assignment: Assignment,
        main: Option<Arc<[u8]>>,
        supervisor: mpsc::UnboundedSender<Input>,
    ) -> io::Result<ProcessSeat> {
        let image = match self.images.get(&image) {
            Some(image) => image.clone(),
            None => {
                let newest = self.origin.newest()?;
                self.images.insert(image, newest.clone());
                newest
            }
        };
        let role = Role {
            run: self.run.clone(),
            past: registry::past(),
        };
        let (process, socket) = self.origin.spawn(&image, &role)?;
        let (pid, killer) = (process.pid(), process.killer().clone());
        let (commands, received) = mpsc::unbounded_channel();
        let stop_signals = assignment.stop_signals.clone();
        let exit = assignment.shutdown_timeout;
        let mut end = match SupervisorEnd::new(socket) {
            Ok(end) => end,
            Err(error) => {
                process.give_up()?;
                return Err(error);
            }
        };
        let greeted = end
            .send(&ToWorker::Hello(assignment), None)
            .and_then(|()| match main {
                Some(value) => end.send_main(value),
                None => Ok(()),
            });
        let attendant = Attendant {
            id,
            process,
            end,
            supervisor,
            #[cfg(feature = "timer")]
            commands: commands.clone(),
            stop_signals,
            exit,
            exits_by: None,
            stopping: false,
            answers: FuturesUnordered::new(),
            heard: Heard {
                broken: greeted.err(),
                ..Heard::default()
            },
            said: None,
            #[cfg(feature = "monitor")]
            parts: BTreeMap::new(),
            #[cfg(feature = "monitor")]
            last_figures: Vec::new(),
            allowance: Allowance::new(Duration::ZERO),
            since: Instant::now(),
        };
        tokio::spawn(attendant.attend(received));
        Ok(ProcessSeat {
            pid,
            killer,
            commands,
            stop: None,
        })
    }

    /// Lets go of the versions that no worker runs any more.
    pub(crate) fn keep(&mut self, uses: impl Fn(Image) -> bool) {
        self.images.retain(|image, _| uses(*image));
    }
}

/// The supervisor's hold on a worker process.
pub(crate) struct ProcessSeat {
    pub(crate) pid: u32,
    pub(crate) killer: Killer,
    pub(crate) stop: Option<Stop>,
    commands: mpsc::UnboundedSender<Command>,
}

enum Command {
    Stop(Stop),
    Go,
    Tell,
    Ping(u64),
    Loan(u64, Loan),
    #[cfg(feature = "timer")]
    Single(u64, SingleAnswer),
    #[cfg(feature = "timer")]
    Free,
    #[cfg(feature = "monitor")]
    Query(u64, Query),
    Kill,
}

impl ProcessSeat {
    pub(crate) fn stop(&mut self, stop: Stop) {
        self.stop = Some(stop);
        self.command(Command::Stop(stop));
    }

    pub(crate) fn go(&self) {
        self.command(Command::Go);
    }

    pub(crate) fn tell(&self) {
        self.command(Command::Tell);
    }

    pub(crate) fn ping(&self, number: u64) {
        self.command(Command::Ping(number));
    }

    pub(crate) fn loan(&self, serving: u64, loan: Loan) {
        self.command(Command::Loan(serving, loan));
    }

    #[cfg(feature = "timer")]
    pub(crate) fn free(&self) {
        self.command(Command::Free);
    }

    #[cfg(feature = "monitor")]
    pub(crate) fn query(&self, number: u64, query: Query) {
        self.command(Command::Query(number, query));
    }

    pub(crate) fn kill(&self) {
        self.command(Command::Kill);
    }

    fn command(&self, command: Command) {
        // Nobody receives once the process has ended, which its attendant tells.
        let _ = self.commands.send(command);
    }
}

/// What a worker has told of itself.
#[derive(Default)]
struct Heard {
    greeting: bool,
    ready: bool,
    /// Its last word.
    ended: Option<(Option<String>, bool)>,
    broken: Option<WireError>,
}

/// Talks with one process until it has ended.
struct Attendant {
    id: WorkerId,
    process: Process,
    end: SupervisorEnd,
    supervisor: mpsc::UnboundedSender<Input>,
    /// For answers that the supervisor gives at once.
    #[cfg(feature = "timer")]
    commands: mpsc::UnboundedSender<Command>,
    stop_signals: Vec<i32>,
    /// What its process gets to end after its last word, unless it has been asked to stop.
    exit: Duration,
    /// When that is over.
    exits_by: Option<Instant>,
    stopping: bool,
    answers: FuturesUnordered<futures_util::future::BoxFuture<'static, (u64, Asked, line::Answer)>>,
    heard: Heard,
    /// What the supervisor has yet to take. Until then nothing else is read.
    said: Option<Message>,
    /// The answers that are still coming in, by the numbers of their queries.
    #[cfg(feature = "monitor")]
    parts: BTreeMap<u64, Vec<u8>>,
    #[cfg(feature = "monitor")]
    last_figures: Vec<u8>,
    allowance: Allowance,
    since: Instant,
}

#[derive(Clone, Copy)]
enum Asked {
    Socket,
    Unlisten,
}

impl Attendant {
    async fn attend(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut open = self.go_on(Ok(()));
        let room = Arc::new(Semaphore::new(ROOM));
        let status = loop {
            let exits_by = self.exits_by;
            let listens = open && self.said.is_none() && self.answers.len() < MOST_REQUESTS;
            tokio::select! {
                biased;
                Some(command) = commands.recv() => {
                    let done = self.carry_out(command);
                    open &= self.go_on(done);
                }
                Some((request, asked, answer)) = self.answers.next(), if !self.answers.is_empty() => {
                    let sent = self.answer(request, asked, answer);
                    open &= self.go_on(sent);
                }
                taken = Arc::clone(&room).acquire_owned(), if self.said.is_some() => self.pass_on(taken.ok()),
                message = self.end.next(), if listens => {
                    let heard = message.and_then(|message| match message {
                        Some(message) => self.hear(message),
                        None => {
                            open = false;
                            Ok(())
                        }
                    });
                    open &= self.go_on(heard);
                }
                status = self.process.ended() => break status,
                () = sleep_until(exits_by) => {
                    self.exits_by = None;
                    report::failure(format_args!(
                        "process {} is still there {:?} after its worker's end: killed",
                        self.process.pid(),
                        self.exit
                    ));
                    self.kill();
                }
            }
        };
        loop {
            if self.said.is_some() {
                let taken = Arc::clone(&room).acquire_owned().await;
                self.pass_on(taken.ok());
            }
            if !open {
                break;
            }
            match tokio::time::timeout(LAST_MESSAGES, self.end.next()).await {
                Ok(Ok(Some(message))) => {
                    let heard = self.hear(message);
                    open = self.go_on(heard);
                }
                _ => open = false,
            }
        }
        let ended = self.judge(status);
        self.say(Input::Worker(self.id, Message::Ended(ended)));
    }

    /// Has the supervisor take what the worker has said.
    fn pass_on(&mut self, taken: Option<OwnedSemaphorePermit>) {
        if let (Some(message), Some(taken)) = (self.said.take(), taken) {
            self.say(Input::Process(self.id, message, taken));
        }
    }

    fn say(&self, input: Input) {
        // A supervisor that is gone has ended the server.
        let _ = self.supervisor.send(input);
    }

    /// Whether the conversation goes on; a worker that can't be talked to is of no use.
    fn go_on(&mut self, outcome: Result<(), WireError>) -> bool {
        if let Err(error) = outcome {
            self.heard.broken.get_or_insert(error);
        }
        if self.heard.broken.is_none() {
            return true;
        }
        self.kill();
        false
    }

    fn kill(&self) {
        if let Err(error) = self.process.killer().kill() {
            report::failure(format_args!(
                "process {} cannot be killed: {error}",
                self.process.pid()
            ));
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<(), WireError> {
        match command {
            Command::Stop(stop) => {
                // The policy sees to it that it ends.
                self.stopping = true;
                self.exits_by = None;
                let left = stop.deadline().saturating_duration_since(Instant::now());
                self.end.send(
                    &ToWorker::Stop {
                        reason: stop.reason().into(),
                        left,
                    },
                    None,
                )
            }
            Command::Go => self.end.send(&ToWorker::Going, None),
            Command::Tell => self.end.send(&ToWorker::Tell, None),
            Command::Ping(number) => self.end.send(&ToWorker::Ping(number), None),
            Command::Loan(serving, Loan::Lent { id: loan, socket }) => self
                .end
                .send(&ToWorker::Lend { serving, loan }, Some(socket)),
            Command::Loan(serving, Loan::TakenBack { id: loan }) => {
                self.end.send(&ToWorker::TakeBack { serving, loan }, None)
            }
            Command::Loan(serving, Loan::Rest(rest)) => {
                self.end.send(&ToWorker::Rest { serving, rest }, None)
            }
            #[cfg(feature = "timer")]
            Command::Single(request, answer) => {
                self.end.send(&ToWorker::Single { request, answer }, None)
            }
            #[cfg(feature = "timer")]
            Command::Free => self.end.send(&ToWorker::Freed, None),
            #[cfg(feature = "monitor")]
            Command::Query(number, query) => {
                let query = Bytes(serde_json::to_vec(&query).unwrap_or_default());
                self.parts.insert(number, Vec::new());
                self.end.send(&ToWorker::Query { number, query }, None)
            }
            Command::Kill => {
                self.kill();
                Ok(())
            }
        }
    }

    /// Puts an answer together, part by part. What wasn't asked for, or is more than an answer may be, is a flood.
    #[cfg(feature = "monitor")]
    fn answered(&mut self, number: u64, part: &Bytes, last: bool) -> Result<(), WireError> {
        let answer = self.parts.get_mut(&number).ok_or(WireError::Flood)?;
        answer.extend_from_slice(&part.0);
        if answer.len() > LONGEST_ANSWER || (part.0.is_empty() && !last) {
            return Err(WireError::Flood);
        }
        if !last {
            return self.end.send(&ToWorker::More(number), None);
        }
        let answer = self.parts.remove(&number).unwrap_or_default();
        self.said = Some(Message::Answered(number, answer));
        Ok(())
    }

    fn answer(
        &mut self,
        request: u64,
        asked: Asked,
        answer: line::Answer,
    ) -> Result<(), WireError> {
        let (answer, descriptor) = match (asked, answer) {
            (Asked::Socket, Ok(Some(socket))) => (Answer::Socket, Some(socket)),
            (Asked::Socket, Ok(None)) => {
                let missing = io::Error::other("the supervisor has no such socket");
                (Answer::Refused(Refusal::from(&missing)), None)
            }
            (Asked::Unlisten, Ok(_)) => (Answer::Unlistened { found: true }, None),
            (_, Err(error)) => (Answer::Refused(Refusal::from(&error)), None),
        };
        self.end
            .send(&ToWorker::Answer { request, answer }, descriptor)
    }

    /// Leaves in `said` what the supervisor is to know.
    fn hear(&mut self, message: ToSupervisor) -> Result<(), WireError> {
        if !self.allowance.take(self.since.elapsed(), weight(&message)) {
            return Err(WireError::Flood);
        }
        #[cfg(feature = "monitor")]
        if let ToSupervisor::Answered { number, part, last } = &message {
            return self.answered(*number, part, *last);
        }
        self.said = match message {
            #[cfg(feature = "monitor")]
            ToSupervisor::Answered { .. } => None,
            #[cfg(feature = "monitor")]
            ToSupervisor::Happened(told) => Some(Message::Happened(told.0)),
            #[cfg(feature = "monitor")]
            ToSupervisor::LastFigures { part, last } => {
                self.last_figures.extend_from_slice(&part.0);
                if self.last_figures.len() > LONGEST_ANSWER {
                    return Err(WireError::Flood);
                }
                last.then(|| Message::LastFigures(std::mem::take(&mut self.last_figures)))
            }
            ToSupervisor::Hello { .. } => {
                self.heard.greeting = true;
                None
            }
            ToSupervisor::Ready => {
                self.heard.ready = true;
                Some(Message::Ready)
            }
            ToSupervisor::Listen { request, wanted } => {
                Some(self.ask(request, Asked::Socket, wanted.into()))
            }
            ToSupervisor::Unlisten { request, text } => {
                Some(self.ask(request, Asked::Unlisten, Request::Unlisten { asked: text }))
            }
            ToSupervisor::Accepts { serving, socket } => Some(Message::Accepts { serving, socket }),
            ToSupervisor::AcceptsNoMore { serving } => Some(Message::AcceptsNoMore { serving }),
            ToSupervisor::TakesTurns { serving, socket } => {
                Some(Message::TakesTurns { serving, socket })
            }
            ToSupervisor::TurnOver { serving } => Some(Message::TurnOver { serving }),
            #[cfg(feature = "timer")]
            ToSupervisor::Single { request, call } => {
                let commands = self.commands.clone();
                // Nobody receives once the process has ended.
                let reply = move |answer| drop(commands.send(Command::Single(request, answer)));
                Some(Message::Single(call, Reply::new(reply)))
            }
            ToSupervisor::Blocked(blocked) => Some(Message::Blocked(blocked)),
            ToSupervisor::Full { serving, full } => Some(Message::Full { serving, full }),
            ToSupervisor::Signalled(raw) => Some(Message::Signalled(Signal::from_raw(raw))),
            ToSupervisor::Pong(number) => Some(Message::Pong(number)),
            ToSupervisor::Accepted(count) => Some(Message::Accepted(count)),
            ToSupervisor::Reported(text) => {
                report::failure(format_args!("process {}: {text}", self.process.pid()));
                None
            }
            ToSupervisor::Ending { failure } => Some(Message::Ending(failure.map(Failure::Error))),
            ToSupervisor::Ended { failure, overran } => {
                self.heard.ended = Some((failure, overran));
                if !self.stopping {
                    self.exits_by = Instant::now().checked_add(self.exit.max(LAST_MESSAGES));
                }
                Some(Message::Exiting)
            }
        };
        Ok(())
    }

    fn ask(&mut self, number: u64, asked: Asked, request: Request) -> Message {
        let (reply, answer) = oneshot::channel();
        self.answers.push(Box::pin(async move {
            let answer = answer
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the server has ended")));
            (number, asked, answer)
        }));
        Message::Request(request, reply)
    }

    /// How the process has ended, from its last word and from what the kernel says.
    fn judge(&mut self, status: io::Result<ExitStatus>) -> Ended {
        let (word, overran) = match self.heard.ended.take() {
            Some((failure, overran)) => (Some(failure), overran),
            None => (None, false),
        };
        let failure = match (self.heard.broken.take(), word, status) {
            (Some(error), ..) => Some(Failure::Died(error.to_string())),
            (_, Some(Some(text)), _) => Some(Failure::Error(text)),
            (_, Some(None), Ok(status)) if status.success() => None,
            (_, Some(None), Ok(status)) => {
                Some(Failure::Died(format!("{} after its end", describe(status))))
            }
            (_, None, Ok(status)) => Some(self.unannounced(status)),
            (_, _, Err(error)) => Some(Failure::Died(format!("its end is not known: {error}"))),
        };
        Ended { failure, overran }
    }

    fn unannounced(&self, status: ExitStatus) -> Failure {
        match status.signal() {
            Some(signal) if !self.heard.ready && self.stop_signals.contains(&signal) => {
                Failure::StopSignal(Signal::from_raw(signal))
            }
            Some(_) => Failure::Died(describe(status)),
            None if !self.heard.greeting => Failure::Died(format!(
                "{} before it reached the `Server::run` that it was started for",
                describe(status)
            )),
            None => Failure::Died(format!("{} from inside the worker", describe(status))),
        }
    }
}

/// What a message takes of the allowance. A worker may want many sockets; a line for the log is a rarity.
fn weight(message: &ToSupervisor) -> u32 {
    let (each, length) = match message {
        ToSupervisor::Listen { wanted, .. } => (1, wanted.len()),
        ToSupervisor::Accepts { .. }
        | ToSupervisor::AcceptsNoMore { .. }
        | ToSupervisor::TakesTurns { .. }
        | ToSupervisor::TurnOver { .. } => (8, 0),
        ToSupervisor::Unlisten { text, .. } => (1, text.len()),
        // With each tick of such a timer.
        #[cfg(feature = "timer")]
        ToSupervisor::Single { call, .. } => (1, call.len()),
        ToSupervisor::Reported(text) => (1024, text.len()),
        ToSupervisor::Ending { failure } | ToSupervisor::Ended { failure, .. } => {
            (16, failure.as_ref().map_or(0, String::len))
        }
        // These are asked for one by one.
        #[cfg(feature = "monitor")]
        ToSupervisor::Answered { .. } => (1, 0),
        _ => (16, 0),
    };
    each + length as u32 / 64
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("killed by {}", Signal::from_raw(signal)),
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => status.to_string(),
    }
}

impl From<Wanted> for Request {
    fn from(wanted: Wanted) -> Request {
        match wanted {
            Wanted::Tcp {
                text,
                addresses,
                all,
            } => Request::Listen {
                asked: text,
                addrs: addresses,
                all,
            },
            Wanted::Udp { text, addresses } => Request::BindUdp {
                asked: text,
                addrs: addresses,
            },
            Wanted::Named { kind, name } => Request::Named { kind, name },
            Wanted::Unix { path, mode } => Request::ListenUnix {
                path: OsString::from_vec(path.0).into(),
                mode,
            },
        }
    }
}
