//! How a worker talks to its supervisor, whichever way it is isolated.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::seats::main_context::MainValue;
use crate::server::worker::event_loop::{Ended, Failure};

/// What a worker asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A TCP listener, with the address as it was written and what it resolved to.
    Listen {
        asked: String,
        addrs: Vec<SocketAddr>,
    },
    ListenUnix {
        path: PathBuf,
        mode: u32,
    },
    BindUdp {
        asked: String,
        addrs: Vec<SocketAddr>,
    },
    /// That what was asked for as this is closed.
    Unlisten {
        asked: String,
    },
}

/// A socket, where one was asked for.
pub(crate) type Answer = io::Result<Option<OwnedFd>>;

/// What a worker tells the supervisor.
pub(crate) enum Message {
    Ready,
    /// The answer to a ping; 0, which nobody has asked for, says that the event loop has begun to turn.
    Pong(u64),
    /// A process worker got a stop signal of its own.
    #[cfg(feature = "process")]
    Signalled(crate::server::Signal),
    Request(Request, oneshot::Sender<Answer>),
    /// Its event loop turns no more, and its process is about to end.
    #[cfg(feature = "process")]
    Exiting,
    /// It has come to its end without having been asked; what it left to be done is still to be done.
    Ending(Option<Failure>),
    Ended(Ended),
}

/// Everything that reaches the supervisor from its own process.
pub(crate) enum Input {
    Worker(WorkerId, Message),
    Main(Message),
    MainEntered(MainValue),
}

/// The worker's end.
pub(crate) enum Link {
    /// In the supervisor's process.
    Thread {
        id: WorkerId,
        supervisor: mpsc::UnboundedSender<Input>,
    },
    /// The main context's.
    Main {
        supervisor: mpsc::UnboundedSender<Input>,
    },
    #[cfg(feature = "process")]
    Process(crate::server::worker::process::ProcessLink),
}

impl Link {
    pub(crate) fn ready(&self) {
        match self {
            #[cfg(feature = "process")]
            Link::Process(link) => link.ready(),
            _ => self.send(Message::Ready),
        }
    }

    pub(crate) fn pong(&self, number: u64) {
        match self {
            #[cfg(feature = "process")]
            Link::Process(link) => link.pong(number),
            _ => self.send(Message::Pong(number)),
        }
    }

    pub(crate) fn ending(&self, failure: Option<Failure>) {
        match self {
            #[cfg(feature = "process")]
            Link::Process(link) => link.ending(failure),
            _ => self.send(Message::Ending(failure)),
        }
    }

    pub(crate) async fn request(&self, request: Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        match self {
            #[cfg(feature = "process")]
            Link::Process(link) => link.request(request, reply),
            _ => self.send(Message::Request(request, reply)),
        }
        answer.await.unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the server's supervisor has ended",
            ))
        })
    }

    /// Tells the supervisor in this process.
    pub(crate) fn send(&self, message: Message) {
        // A supervisor that is gone has ended the server; nobody is left to be told.
        let _ = match self {
            Link::Thread { id, supervisor } => supervisor.send(Input::Worker(*id, message)),
            Link::Main { supervisor } => supervisor.send(Input::Main(message)),
            #[cfg(feature = "process")]
            Link::Process(_) => return,
        };
    }
}
