//! Everything that asks a supervisor for something: signals, and requests over a channel.

use tokio::sync::mpsc;

use super::asked::Asked;
use super::signals::Signals;

/// Asks a running supervisor, from any thread. It is never waited for, and asks in vain once the server has ended.
#[derive(Clone, Debug)]
pub(crate) struct Requester(mpsc::UnboundedSender<Asked>);

impl Requester {
    pub(crate) fn ask(&self, asked: Asked) {
        // A server that has ended can do nothing more.
        let _ = self.0.send(asked);
    }
}

/// What the supervisor takes in turn.
pub(crate) struct Requests {
    signals: Option<Signals>,
    asked: mpsc::UnboundedReceiver<Asked>,
}

impl Requests {
    /// Of the signals, if they are handled, and of whoever has a copy of the requester.
    pub(crate) fn new(signals: Option<Signals>) -> (Requester, Requests) {
        let (requester, asked) = mpsc::unbounded_channel();
        (Requester(requester), Requests { signals, asked })
    }

    /// The next one; signals first, and of those stop signals. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Asked {
        let signals = &mut self.signals;
        let signalled = async {
            match signals {
                Some(signals) => signals.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            asked = signalled => asked,
            Some(asked) = self.asked.recv() => asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_come_in_the_order_in_which_they_are_made() {
        let (requester, mut requests) = Requests::new(None);
        let all = [Asked::Reload, Asked::Scale(3), Asked::StopRequested];
        for asked in all {
            requester.clone().ask(asked);
        }
        for asked in all {
            assert_eq!(requests.next().await, asked);
        }
        drop(requester);
        let nothing = tokio::time::timeout(std::time::Duration::ZERO, requests.next());
        assert!(nothing.await.is_err());
    }
}
