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

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Mutex;

    fn unlisten() -> Request {
        Request::Unlisten {
            asked: "[::]:80".to_owned(),
        }
    }

    #[test]
    fn what_is_said_is_heard_in_order() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        let line = Line::new(move |message| {
            hearing.lock().unwrap().push(match message {
                Message::Ready => "ready".to_owned(),
                Message::Pong(number) => format!("pong {number}"),
                Message::Ending(failure) => format!("ending, {}", failure.unwrap()),
                Message::Blocked(blocked) => format!("blocked: {blocked}"),
                _ => panic!("something else"),
            });
        });
        line.pong(0);
        line.ready();
        line.clone().say(Message::Blocked(true));
        line.pong(7);
        line.ending(Some(Failure::Error("no space".to_owned())));
        let heard = heard.lock().unwrap();
        let expected = [
            "pong 0",
            "ready",
            "blocked: true",
            "pong 7",
            "ending, no space",
        ];
        assert_eq!(*heard, expected);
    }

    #[tokio::test]
    async fn whoever_asks_gets_the_answer() {
        let line = Line::new(|message| match message {
            Message::Request(request, reply) => {
                assert_eq!(request, unlisten());
                reply.send(Ok(None)).unwrap();
            }
            #[cfg(feature = "timer")]
            Message::Single(call, reply) => {
                let name = "nightly".to_owned();
                assert_eq!(call, SingleCall::Release { name, token: 3 });
                reply.send(SingleAnswer::Stale);
            }
            _ => panic!("something else"),
        });
        assert!(line.request(unlisten()).await.unwrap().is_none());
        #[cfg(feature = "timer")]
        {
            let name = "nightly".to_owned();
            let answer = line.single(SingleCall::Release { name, token: 3 }).await;
            assert_eq!(answer, Some(SingleAnswer::Stale));
        }
    }

    #[tokio::test]
    async fn whoever_asks_a_supervisor_that_has_ended_learns_that() {
        let line = Line::new(drop);
        let error = line.request(unlisten()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(error.to_string(), "the server's supervisor has ended");
        #[cfg(feature = "timer")]
        {
            let name = "nightly".to_owned();
            let answer = line.single(SingleCall::Release { name, token: 3 }).await;
            assert_eq!(answer, None);
        }
    }
}
