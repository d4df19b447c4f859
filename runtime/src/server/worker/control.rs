//! A process worker's conversation with its supervisor.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::server::line::wire::{
    Answer, Attached, Bytes, Next, Sender, ToSupervisor, ToWorker, Wanted, WorkerEnd, clipped,
};
use crate::server::line::{self, Loan, Message, Request, Told};
#[cfg(feature = "timer")]
use crate::server::line::{Reply, SingleAnswer};
use crate::server::stop::{after, without_reserve};
use crate::server::{Stop, StopReason, report};

/// What a line of the log gets to be taken, where it may be what a worker's end waits for.
const LOG_LINE: Duration = Duration::from_millis(500);

/// How much of an answer is given at once: of all that may be asked at a time, the queue has to hold a part.
#[cfg(feature = "monitor")]
const PART: usize = 8 * 1024;

/// And how much of the last figures, of which none is asked for.
#[cfg(feature = "monitor")]
const LAST_PART: usize = 48 * 1024;

/// Carries out what the supervisor says, for as long as this process lives. On a thread of its own, so that
/// a blocked event loop, or an exit handler that hangs, can't keep a worker whose supervisor is gone.
pub(super) struct Control {
    pub(super) name: String,
    pub(super) told: Arc<Told>,
    pub(super) socket: Arc<Socket>,
    /// How long the worker may go on without its supervisor.
    pub(super) patience: Duration,
}

impl Control {
    pub(super) fn listen(self, mut end: WorkerEnd) {
        let Control { name, patience, .. } = &self;
        let failed = loop {
            match end.next(None) {
                Ok(Next::Message(message, attached)) => self.carry_out(message, attached),
                Ok(Next::Closed) => break None,
                Ok(Next::TimedOut) => {}
                Err(error) => break Some(error),
            }
        };
        // Before anything is said: a log may hold up this thread, and with it the end.
        let now = tokio::time::Instant::now();
        let (told, killed_at) = (
            after(now, without_reserve(*patience)),
            after(now, *patience),
        );
        self.told
            .stop
            .set(Stop::new(StopReason::SupervisorGone, told));
        self.socket.abandon();
        if let Some(error) = failed {
            report::failure_within(
                LOG_LINE.min(*patience),
                format!("{name}: the supervisor can't be understood: {error}"),
            );
        }
        thread::sleep(killed_at.saturating_duration_since(tokio::time::Instant::now()));
        report::failure_within(
            LOG_LINE,
            format!("{name} did not stop after its supervisor was gone: killed"),
        );
        let own = rustix::process::getpid();
        if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::KILL) {
            report::failure(format_args!("{name} cannot kill itself: {error}"));
        }
    }

    fn carry_out(&self, message: ToWorker, attached: Attached<OwnedFd>) {
        match message {
            ToWorker::Stop { reason, left } => {
                let deadline = after(tokio::time::Instant::now(), left);
                self.told.stop.set(Stop::new(reason.into(), deadline));
            }
            ToWorker::Going => self.told.stop.go(),
            ToWorker::Tell => self.told.reload(),
            ToWorker::Ping(number) => {
                self.told.ping(number, |message| self.socket.say(message));
            }
            ToWorker::Lend { serving, loan: id } => match attached {
                Attached::Descriptor(socket) => {
                    self.told.loans.tell(serving, Loan::Lent { id, socket })
                }
                Attached::Lost | Attached::Nothing => {
                    report::log!(warn, worker = %self.name, "too many open files: a sibling's socket could not be received");
                }
            },
            ToWorker::Rest { serving, rest } => self.told.loans.tell(serving, Loan::Rest(rest)),
            ToWorker::TakeBack { serving, loan: id } => {
                self.told.loans.tell(serving, Loan::TakenBack { id });
            }
            #[cfg(feature = "monitor")]
            ToWorker::Query { number, query } => match serde_json::from_slice(&query.0) {
                Ok(query) => self.told.query(number, query),
                Err(error) => {
                    report::log!(warn, worker = %self.name, %error, "a question can't be understood");
                }
            },
            #[cfg(feature = "monitor")]
            ToWorker::More(number) => self.socket.answer_on(number),
            ToWorker::Answer { request, answer } => {
                self.socket.answered(request, answer, attached);
            }
            #[cfg(feature = "timer")]
            ToWorker::Single { request, answer } => {
                if let Some(Waiting::Single(reply)) = self.socket.take(request) {
                    reply.send(answer);
                }
            }
            #[cfg(feature = "timer")]
            ToWorker::Freed => self.told.free(),
            ToWorker::Hello(_) | ToWorker::Main { .. } => {
                report::log!(warn, worker = %self.name, "the supervisor assigned a worker twice");
            }
        }
    }
}

/// Where what a process worker says goes.
pub(super) struct Socket {
    sender: Sender,
    next: AtomicU64,
    /// Who waits for which answer; none once there will be no more.
    waiting: Mutex<Option<BTreeMap<u64, Waiting>>>,
    /// What has yet to be asked for of answers that are given in parts.
    #[cfg(feature = "monitor")]
    answers: Mutex<BTreeMap<u64, Vec<u8>>>,
}

enum Waiting {
    Request(oneshot::Sender<line::Answer>),
    #[cfg(feature = "timer")]
    Single(Reply),
}

impl Socket {
    pub(super) fn new(sender: Sender) -> Socket {
        Socket {
            sender,
            next: AtomicU64::new(0),
            waiting: Mutex::new(Some(BTreeMap::new())),
            #[cfg(feature = "monitor")]
            answers: Mutex::default(),
        }
    }

    /// What the worker's code says. How it ended, its process says itself, and signals come by other ways.
    pub(super) fn say(&self, message: Message) {
        match message {
            Message::Ready => self.send(&ToSupervisor::Ready),
            Message::Pong(number) => self.send(&ToSupervisor::Pong(number)),
            Message::Accepted(count) => self.send(&ToSupervisor::Accepted(count)),
            Message::Ending(failure) => {
                let failure = failure.map(|failure| clipped(failure.to_string()));
                self.send(&ToSupervisor::Ending { failure });
            }
            Message::Request(request, reply) => {
                let reply = Waiting::Request(reply);
                self.ask(reply, |number| to_message(number, request));
            }
            #[cfg(feature = "timer")]
            Message::Single(call, reply) => {
                self.ask(Waiting::Single(reply), |request| ToSupervisor::Single {
                    request,
                    call,
                });
            }
            Message::Accepts { serving, socket } => {
                self.send(&ToSupervisor::Accepts { serving, socket });
            }
            Message::TakesTurns { serving, socket } => {
                self.send(&ToSupervisor::TakesTurns { serving, socket });
            }
            Message::TurnOver { serving } => self.send(&ToSupervisor::TurnOver { serving }),
            Message::AcceptsNoMore { serving } => {
                self.send(&ToSupervisor::AcceptsNoMore { serving });
            }
            Message::Full { serving, full } => {
                self.send(&ToSupervisor::Full { serving, full });
            }
            Message::Blocked(blocked) => self.send(&ToSupervisor::Blocked(blocked)),
            #[cfg(feature = "monitor")]
            Message::Answered(number, answer) => {
                self.answers().insert(number, answer);
                self.answer_on(number);
            }
            #[cfg(feature = "monitor")]
            Message::Happened(told) => self.send(&ToSupervisor::Happened(Bytes(told))),
            #[cfg(feature = "monitor")]
            Message::LastFigures(figures) => {
                let parts = figures.chunks(LAST_PART);
                let number = parts.len();
                for (index, part) in parts.enumerate() {
                    let (part, last) = (Bytes(part.to_vec()), index + 1 == number);
                    self.send(&ToSupervisor::LastFigures { part, last });
                }
            }
            Message::Signalled(_) | Message::Exiting | Message::Ended(_) => {}
        }
    }

    #[cfg(feature = "monitor")]
    fn answers(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Vec<u8>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the next part of an answer.
    #[cfg(feature = "monitor")]
    fn answer_on(&self, number: u64) {
        let Some(mut part) = self.answers().remove(&number) else {
            return;
        };
        let rest = part.split_off(part.len().min(PART));
        let last = rest.is_empty();
        if !last {
            self.answers().insert(number, rest);
        }
        let part = Bytes(part);
        self.send(&ToSupervisor::Answered { number, part, last });
    }

    fn send(&self, message: &ToSupervisor) {
        if let Err(error) = self.sender.send(message) {
            // The thread that listens to the supervisor sees the same and acts on it.
            report::log!(debug, %error, "the supervisor can't be told");
        }
    }

    fn ask(&self, reply: Waiting, message: impl FnOnce(u64) -> ToSupervisor) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // Dropping the reply tells that the supervisor is gone.
            let Some(waiting) = &mut *waiting else { return };
            waiting.insert(number, reply);
        }
        if let Err(error) = self.sender.ask(&message(number)) {
            // Nobody else will ever answer.
            match self.take(number) {
                Some(Waiting::Request(reply)) => drop(reply.send(Err(io::Error::other(error)))),
                #[cfg(feature = "timer")]
                Some(Waiting::Single(reply)) => {
                    reply.send(SingleAnswer::Refused(error.to_string()));
                }
                None => {}
            }
        }
    }

    fn take(&self, number: u64) -> Option<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut()?.remove(&number)
    }

    fn answered(&self, number: u64, answer: Answer, attached: Attached<OwnedFd>) {
        let reply = match self.take(number) {
            Some(Waiting::Request(reply)) => reply,
            #[cfg(feature = "timer")]
            Some(Waiting::Single(_)) => return,
            None => return,
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
        Request::Listen { asked, addrs, all } => Wanted::Tcp {
            text: asked,
            addresses: addrs,
            all,
        },
        Request::BindUdp { asked, addrs } => Wanted::Udp {
            text: asked,
            addresses: addrs,
        },
        Request::Named { kind, name } => Wanted::Named { kind, name },
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
        let socket = Socket::new(WorkerEnd::new(socket.into()).unwrap().sender());
        let asked = "x".repeat(100_000);
        let (reply, mut answer) = oneshot::channel();
        socket.say(Message::Request(Request::Unlisten { asked }, reply));
        assert!(answer.try_recv().unwrap().is_err());
        assert!(socket.waiting.lock().unwrap().as_ref().unwrap().is_empty());
    }
}
