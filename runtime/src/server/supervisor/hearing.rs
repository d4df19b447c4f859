//! What workers and the main context say, as the events of the policy.

use super::driver::Supervisor;
use super::policy::{Ending, Event, WorkerId, Worn};
use super::who::{Who, about};
use crate::server::line::{Ended, Failure, Message, Role};
use crate::server::report;

impl Supervisor {
    pub(super) fn worker_said(&mut self, id: WorkerId, message: Message) {
        match message {
            Message::Ready => {
                let now = self.now();
                if let Some(live) = self.workers.get_mut(&id) {
                    live.ready = true;
                    live.pulse.ready(now);
                    let (role, pid) = (live.role, live.seat.pid());
                    let who = self.who(role, pid);
                    about!(who, debug, {}, "{} is ready", who.name);
                    #[cfg(feature = "monitor")]
                    self.note_worker(id, "ready", "is ready");
                }
                self.happened(Event::Ready(id));
            }
            Message::Pong(number) => {
                let now = self.now();
                // It turns, whatever word of it was lost in a flood.
                self.sockets.blocked(id, false);
                self.turns.blocked(id, false);
                if let Some(live) = self.workers.get_mut(&id) {
                    if !live.turning {
                        live.turning = true;
                        // While no loop turned, nothing was due.
                        self.pulses_at = self.pulses_at.max(now);
                    }
                    if let Some(blocked) = live.pulse.answered(now, number) {
                        let (role, pid) = (live.role, live.seat.pid());
                        let who = self.who(role, pid);
                        let name = &who.name;
                        about!(
                            who,
                            warn,
                            {},
                            "the event loop of {name} turns again, after {blocked:.1?}"
                        );
                    }
                }
            }
            Message::Accepted(connections) => {
                let limit = self.recycle.connections;
                let limit = limit.zip(self.workers.get(&id).map(|live| live.wear));
                if limit.is_some_and(|(limit, wear)| connections >= wear.of(limit)) {
                    self.happened(Event::Worn(id, Worn::Connections(connections)));
                }
            }
            #[cfg(feature = "process")]
            Message::Signalled(signal) => self.happened(Event::WorkerSignalled(id, signal)),
            Message::Request(request, reply) => {
                let answer = self.answer(id, request);
                if let Some(live) = self.workers.get_mut(&id) {
                    live.refused |= answer.is_err() && live.seat.is_stopping();
                }
                // The worker may have dropped its `listen`; the slot keeps the socket.
                let _ = reply.send(answer);
            }
            #[cfg(feature = "timer")]
            Message::Single(call, reply) => self.answer_single(Some(id), call, reply),
            #[cfg(feature = "monitor")]
            Message::Answered(number, answer) => self.answered(number, answer),
            #[cfg(feature = "monitor")]
            Message::LastFigures(figures) => self.last_figures(id, figures),
            #[cfg(feature = "monitor")]
            Message::Happened(told) => self.note_happened(id, &told),
            Message::Accepts { serving, socket } => self.sockets.accepts(id, serving, socket),
            Message::Blocked(blocked) => {
                if let Some(live) = self.workers.get(&id) {
                    let (role, pid) = (live.role, live.seat.pid());
                    let who = self.who(role, pid);
                    let name = &who.name;
                    match blocked {
                        true => about!(who, debug, {}, "the event loop of {name} is blocked"),
                        false => about!(
                            who,
                            debug,
                            {},
                            "the event loop of {name} isn't blocked any more"
                        ),
                    }
                }
                self.sockets.blocked(id, blocked);
                self.turns.blocked(id, blocked);
            }
            Message::Full { serving, full } => {
                self.sockets.full(id, serving, full);
                self.turns.full(id, serving, full);
            }
            Message::AcceptsNoMore { serving } => {
                self.sockets.accepts_no_more(id, serving);
                self.turns.end(id, serving);
            }
            // One that was to stop by then has no turn any more, and nobody has one at a socket that isn't ours.
            Message::TakesTurns { serving, socket } => {
                let live = self.workers.get(&id);
                let goes_on = live.is_some_and(|live| !live.seat.is_stopping());
                if goes_on && self.sockets.name_of(id, socket).is_some() {
                    self.turns.begin(id, serving, socket);
                }
            }
            Message::TurnOver { serving } => self.turns.over(id, serving),
            #[cfg(feature = "process")]
            Message::Exiting => {
                if let Some(live) = self.workers.get_mut(&id) {
                    live.turning = false;
                }
            }
            Message::Ending(failure) => {
                let Some(live) = self.workers.get_mut(&id) else {
                    return;
                };
                // Of one that was asked meanwhile, or that is an extra, nothing is done before it is gone.
                if live.seat.is_stopping() || matches!(live.role, Role::Extra(_)) {
                    return;
                }
                live.ending = true;
                let (role, pid, starting) = (live.role, live.seat.pid(), !live.ready);
                let overran = false;
                let who = self.who(role, pid);
                let ending = self.judge(&who, starting, Ended { failure, overran });
                self.sockets.leaving(id);
                self.happened(Event::Ending(id, ending));
                // What the policy makes nothing of before the worker is gone counts then.
                if let Some(live) = self.workers.get_mut(&id) {
                    live.ending = live.seat.is_stopping();
                }
            }
            Message::Ended(mut ended) => {
                let Some(live) = self.workers.get(&id) else {
                    return;
                };
                if live.ending {
                    ended.failure = ended.failure.filter(Failure::is_of_the_end_itself);
                }
                let who = self.who(live.role, live.seat.pid());
                let (name, pid) = (&who.name, who.pid);
                let (starting, refused) = (!live.ready, live.refused);
                self.sockets.ended(id);
                self.turns.leave(id);
                #[cfg(feature = "timer")]
                self.singles_ended(Some(id));
                let ending = match ended.failure {
                    // Without a socket it has to give up: that is what it was asked to do.
                    Some(failure @ (Failure::Error(_) | Failure::Panic(_)))
                        if starting && refused =>
                    {
                        let cause = failure.to_string();
                        match self.told.contains(&cause) {
                            true => about!(
                                who,
                                info,
                                { cause = cause.as_str() },
                                "{name} (pid {pid}) failed likewise"
                            ),
                            false => about!(
                                who,
                                info,
                                { cause = cause.as_str() },
                                "{name} was stopped while it was starting: {cause}"
                            ),
                        }
                        Ending::Clean
                    }
                    #[cfg(feature = "process")]
                    Some(failure @ Failure::StopSignal(_)) => {
                        about!(
                            who,
                            info,
                            { cause = %failure },
                            "{name} (pid {pid}) was {failure}"
                        );
                        Ending::KilledByStopSignal
                    }
                    _ => self.judge(&who, starting, ended),
                };
                #[cfg(feature = "monitor")]
                self.note_worker(id, "ended", "has ended");
                // Known until then by what the policy has to report of it.
                self.happened(Event::Ended(id, ending));
                #[cfg(feature = "monitor")]
                self.queries.retain(|_, query| query.of != id);
                if let Some(live) = self.workers.remove(&id) {
                    live.seat.leave(&self.leaving);
                }
            }
        }
    }

    pub(super) fn main_said(&mut self, message: Message) {
        match message {
            // It waits for its stop; that it was entered has been told, and its end counts when it is gone.
            Message::Ready | Message::Pong(_) | Message::Ending(_) => {}
            Message::Accepts { .. }
            | Message::AcceptsNoMore { .. }
            | Message::TakesTurns { .. }
            | Message::TurnOver { .. }
            | Message::Full { .. }
            | Message::Accepted(_)
            | Message::Blocked(_) => {}
            #[cfg(feature = "timer")]
            Message::Single(call, reply) => self.answer_single(None, call, reply),
            #[cfg(feature = "monitor")]
            Message::Answered(..) | Message::LastFigures(_) | Message::Happened(_) => {}
            #[cfg(feature = "process")]
            Message::Signalled(_) | Message::Exiting => {}
            Message::Request(_, reply) => {
                let _ = reply.send(Err(std::io::Error::new(
                    std::io::ErrorKind::Unsupported,
                    "the main context has no listening sockets",
                )));
            }
            Message::Ended(ended) => {
                let ending = self.judge(&Who::main(), false, ended);
                #[cfg(feature = "timer")]
                self.singles_ended(None);
                if let Some(main) = self.main.take() {
                    self.leaving.add(main);
                }
                self.happened(match self.main_value {
                    None if ending == Ending::Failed => Event::MainFailed,
                    _ => Event::MainLeft(ending),
                });
            }
        }
    }

    /// Tells a failure, and the policy's word for it.
    fn judge(&mut self, who: &Who, starting: bool, ended: Ended) -> Ending {
        if let Some(failure) = &ended.failure {
            self.tell_failure(who, starting, failure);
        }
        match (ended.failure, ended.overran) {
            (Some(_), true) => Ending::OverranAndFailed,
            (Some(_), false) => Ending::Failed,
            (None, true) => Ending::Overran,
            (None, false) => Ending::Clean,
        }
    }
}
