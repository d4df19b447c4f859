//! The worker's end of the line.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::message::{Answer, Failure, Message, Request};
#[cfg(feature = "timer")]
use super::single::{Reply, SingleAnswer, SingleCall};

/// Says what a worker has to say, whoever takes it: a channel in a thread, a socket's sender in a process.
#[derive(Clone)]
pub(crate) struct Line(Arc<dyn Fn(Message) + Send + Sync>);

impl Line {
    /// `take` must not block, and may be called from any thread.
    pub(crate) fn new(take: impl Fn(Message) + Send + Sync + 'static) -> Line {
        Line(Arc::new(take))
    }

    pub(crate) fn say(&self, message: Message) {
        (self.0)(message);
    }

    pub(crate) fn ready(&self) {
        self.say(Message::Ready);
    }

    pub(crate) fn pong(&self, number: u64) {
        self.say(Message::Pong(number));
    }

    pub(crate) fn ending(&self, failure: Option<Failure>) {
        self.say(Message::Ending(failure));
    }

    /// `None` if there is no supervisor any more.
    #[cfg(feature = "timer")]
    pub(crate) async fn single(&self, call: SingleCall) -> Option<SingleAnswer> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have given up waiting.
        let reply = Reply::new(move |answer| drop(reply.send(answer)));
        self.say(Message::Single(call, reply));
        answer.await.ok()
    }

    pub(crate) async fn request(&self, request: Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.say(Message::Request(request, reply));
        answer.await.unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the server's supervisor has ended",
            ))
        })
    }
}
