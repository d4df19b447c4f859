//! The supervisor that this process is to replace, and the conversation with it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::messages::{Roles, ToPredecessor, ToSuccessor, passed};
use crate::server::line::wire::{Attached, Dialogue, HANDOVER, WireError};
use crate::server::supervisor::entrances::{Entrance, Entrances};
use crate::server::supervisor::sockets::Estate;

/// By when all is handed over to one that has greeted.
const HANDOVER_TIME: Duration = Duration::from_secs(10);

/// One that has been greeted.
pub(crate) struct Predecessor(UnixStream);

/// What this process has of its predecessor.
pub(crate) struct Heir {
    pub(crate) estate: Estate<OwnedFd>,
    pub(crate) watchdog: Option<Duration>,
    pub(crate) workers: Option<usize>,
    pub(crate) entrances: Entrances,
    /// None if the predecessor was gone before it had handed over everything.
    pub(crate) end: Option<Dialogue>,
}

/// What is heard of the predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Released,
    Gone,
}

impl Predecessor {
    /// To be called before anything else is done: until then the predecessor doesn't know that this process can replace it.
    pub(crate) fn greet(socket: OwnedFd) -> Result<Predecessor, WireError> {
        let socket = UnixStream::from(socket);
        let hello = ToPredecessor::Hello {
            pid: std::process::id(),
        };
        Dialogue::greet(&socket, &HANDOVER, &hello)?;
        Ok(Predecessor(socket))
    }

    /// Takes what is handed over, for a server with these extras. A predecessor that is gone leaves what it has sent.
    pub(crate) async fn inherit(self, mut roles: Roles) -> Result<Heir, WireError> {
        let mut end = Dialogue::greeted(self.0, &HANDOVER)?;
        let mut heir = Heir {
            estate: Estate {
                sockets: Vec::new(),
                pins: Vec::new(),
                inherited: Vec::new(),
            },
            watchdog: None,
            workers: None,
            entrances: Entrances::default(),
            end: None,
        };
        let receiving = async {
            while let Some((message, attached)) = end.next().await? {
                let estate = &mut heir.estate;
                match message {
                    ToSuccessor::Socket(socket) => {
                        let handed = socket.with(descriptor(attached)?, &mut roles);
                        estate.sockets.push(handed);
                    }
                    ToSuccessor::Passed {
                        called,
                        place,
                        only_v6,
                        taken,
                    } => {
                        let socket = descriptor(attached)?;
                        let inherited = passed(called, place, only_v6, taken, socket)?;
                        estate.inherited.push(inherited);
                    }
                    ToSuccessor::Entrance { door, at, inode } => {
                        let entrance = Entrance {
                            socket: descriptor(attached)?,
                            at: OsString::from_vec(at.0).into(),
                            inode,
                        };
                        match door {
                            true => heir.entrances.door = Some(entrance),
                            false => heir.entrances.health = Some(entrance),
                        }
                    }
                    ToSuccessor::Pin(pin) => estate.pins.push(pin.pinned(&mut roles)),
                    ToSuccessor::All { watchdog, workers } => {
                        (heir.watchdog, heir.workers) = (watchdog, workers);
                        return Ok(true);
                    }
                    ToSuccessor::Released => {}
                }
            }
            Ok::<_, WireError>(false)
        };
        let complete = timeout(HANDOVER_TIME, receiving).await.map_err(|_| {
            let text = format!("not everything was handed over within {HANDOVER_TIME:?}");
            io::Error::new(io::ErrorKind::TimedOut, text)
        })??;
        heir.end = complete.then_some(end);
        Ok(heir)
    }
}

/// Attends to the predecessor until it is gone. What is to be told it goes through the channel. Must be called in a runtime.
pub(crate) fn attend(
    end: Option<Dialogue>,
    say: impl Fn(Heard) + Send + Sync + 'static,
) -> mpsc::UnboundedSender<ToPredecessor> {
    let (sender, mut to_be_told) = mpsc::unbounded_channel::<ToPredecessor>();
    tokio::spawn(async move {
        let Some(mut end) = end else {
            return say(Heard::Gone);
        };
        loop {
            tokio::select! {
                Some(message) = to_be_told.recv() => {
                    // That it doesn't arrive is heard too.
                    let _ = end.send(&message, None);
                }
                heard = end.next::<ToSuccessor>() => match heard {
                    Ok(Some((ToSuccessor::Released, _))) => say(Heard::Released),
                    Ok(Some(_)) => {}
                    // Whatever it says that can't be understood, there will be no more.
                    Ok(None) | Err(_) => return say(Heard::Gone),
                },
            }
        }
    });
    sender
}

fn descriptor(attached: Attached<OwnedFd>) -> Result<OwnedFd, WireError> {
    match attached {
        Attached::Descriptor(socket) => Ok(socket),
        Attached::Nothing => Err(WireError::NoDescriptor),
        Attached::Lost => {
            let text = "too many open files: a socket of the predecessor could not be received";
            Err(io::Error::other(text).into())
        }
    }
}
