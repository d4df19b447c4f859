//! How a worker talks to its supervisor, whichever way it is isolated.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use super::event_loop::Ended;
use super::main_context::MainValue;
use super::policy::WorkerId;

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
    Request(Request, oneshot::Sender<Answer>),
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
}

impl Link {
    pub(crate) fn ready(&self) {
        self.send(Message::Ready);
    }

    pub(crate) fn ended(&self, ended: Ended) {
        self.send(Message::Ended(ended));
    }

    pub(crate) async fn request(&self, request: Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Request(request, reply));
        answer.await.unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the server's supervisor has ended",
            ))
        })
    }

    fn send(&self, message: Message) {
        // A supervisor that is gone has ended the server; nobody is left to be told.
        let _ = match self {
            Link::Thread { id, supervisor } => supervisor.send(Input::Worker(*id, message)),
            Link::Main { supervisor } => supervisor.send(Input::Main(message)),
        };
    }
}
