//! The process that is to replace this supervisor, and the conversation with it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::messages::{ToPredecessor, ToSuccessor};
use crate::server::line::wire::{Dialogue, HANDOVER, WireError};
use crate::server::report;
use crate::server::supervisor::seats::child::{Killer, Process};

/// What a process that has ended may still have in its socket is there at once.
const LAST_MESSAGES: Duration = Duration::from_secs(1);

/// What is heard of it.
#[derive(Debug)]
pub(crate) enum Said {
    Message(ToPredecessor),
    /// It can't be understood.
    Broken(String),
    /// Its process has ended, with 0.
    Left,
    /// Its process has ended otherwise.
    Ended(String),
}

/// The hold on a successor.
pub(crate) struct Successor {
    pub(crate) pid: u32,
    killer: Killer,
    commands: mpsc::UnboundedSender<Command>,
    attendant: JoinHandle<()>,
}

enum Command {
    Send(ToSuccessor, Option<OwnedFd>),
    /// Its end is to be seen by who becomes its parent.
    LeaveUnreaped,
}

impl Successor {
    /// Attends to a process that has just been started, and has this socket's other end. Must be called in a runtime.
    pub(crate) fn new(
        process: Process,
        socket: UnixStream,
        say: impl Fn(Said) + Send + Sync + 'static,
    ) -> io::Result<Successor> {
        let end = match Dialogue::new(socket, &HANDOVER) {
            Ok(end) => end,
            Err(error) => {
                process.give_up()?;
                return Err(error);
            }
        };
        let (commands, received) = mpsc::unbounded_channel();
        let (pid, killer) = (process.pid(), process.killer().clone());
        Ok(Successor {
            pid,
            killer,
            commands,
            attendant: tokio::spawn(attend(process, end, received, say)),
        })
    }

    pub(crate) fn send(&self, message: ToSuccessor, descriptor: Option<OwnedFd>) {
        self.command(Command::Send(message, descriptor));
    }

    /// From here on it isn't reaped when it ends, so that the service manager, to which it goes with this process's end,
    /// learns how it ended.
    pub(crate) fn leave_unreaped(&self) {
        self.command(Command::LeaveUnreaped);
    }

    pub(crate) fn ask_to_stop(&self) {
        self.tell_of("asked to stop", self.killer.terminate());
    }

    pub(crate) fn kill(&self) {
        self.tell_of("killed", self.killer.kill());
    }

    /// Waits until it has been sent what was said last.
    pub(crate) async fn finish(self) {
        drop(self.commands);
        // It doesn't panic, and nobody cancels it.
        let _ = timeout(LAST_MESSAGES, self.attendant).await;
    }

    fn tell_of(&self, what: &str, done: io::Result<()>) {
        if let Err(error) = done {
            let pid = self.pid;
            report::log!(error, pid, %error, "the new supervisor (pid {pid}) can't be {what}: {error}");
        }
    }

    fn command(&self, command: Command) {
        // Nobody receives once the process has ended, which is said.
        let _ = self.commands.send(command);
    }
}

enum Happened {
    Command(Option<Command>),
    Heard(Result<Option<ToPredecessor>, WireError>),
    Ended(io::Result<Said>),
}

/// Until the process has ended, or nobody is interested any more.
async fn attend(
    mut process: Process,
    mut end: Dialogue,
    mut commands: mpsc::UnboundedReceiver<Command>,
    say: impl Fn(Said) + Send + Sync + 'static,
) {
    let (mut open, mut reaps) = (true, true);
    loop {
        let ended = async {
            match reaps {
                true => process.ended().await.map(|status| match status.success() {
                    true => Said::Left,
                    false => Said::Ended(status.to_string()),
                }),
                false => process.ended_unreaped().await.map(|clean| match clean {
                    true => Said::Left,
                    false => Said::Ended("its process is gone".to_owned()),
                }),
            }
        };
        let happened = tokio::select! {
            biased;
            command = commands.recv() => Happened::Command(command),
            heard = next(&mut end), if open => Happened::Heard(heard),
            ended = ended => Happened::Ended(ended),
        };
        match happened {
            Happened::Command(Some(Command::Send(message, descriptor))) => {
                let sent = send(&mut end, &message, descriptor);
                // One that doesn't read isn't waited for beyond its end.
                let sent = tokio::select! {
                    sent = sent => sent,
                    _ = process.ended_unreaped() => Ok(()),
                };
                if let Err(error) = sent {
                    say(Said::Broken(error.to_string()));
                }
            }
            Happened::Command(Some(Command::LeaveUnreaped)) => reaps = false,
            // The supervisor is done with it.
            Happened::Command(None) => return,
            Happened::Heard(Ok(Some(message))) => say(Said::Message(message)),
            // That it has closed its end is no news: either it ends, or it is late.
            Happened::Heard(Ok(None)) => open = false,
            Happened::Heard(Err(error)) => {
                open = false;
                say(Said::Broken(error.to_string()));
            }
            Happened::Ended(ended) => {
                let rest = async {
                    while let Ok(Some(message)) = next(&mut end).await {
                        say(Said::Message(message));
                    }
                };
                if open {
                    let _ = timeout(LAST_MESSAGES, rest).await;
                }
                say(ended.unwrap_or_else(|error| Said::Ended(error.to_string())));
                return;
            }
        }
    }
}

async fn next(end: &mut Dialogue) -> Result<Option<ToPredecessor>, WireError> {
    Ok(end.next().await?.map(|(message, _)| message))
}

async fn send(
    end: &mut Dialogue,
    message: &ToSuccessor,
    descriptor: Option<OwnedFd>,
) -> Result<(), WireError> {
    end.room().await?;
    end.send(message, descriptor)
}
