//! The stream of SIGUSR1.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::watch;

async fn next_change(mut told: watch::Receiver<u64>) -> Option<((), watch::Receiver<u64>)> {
    told.changed().await.ok().map(|()| ((), told))
}

fn changes(told: watch::Receiver<u64>) -> impl Stream<Item = ()> + Send {
    futures_util::stream::unfold(told, next_change)
}

/// The SIGUSR1 that the server gets, from [`Worker::reloads`](crate::Worker::reloads).
pub struct Reloads {
    changes: Pin<Box<dyn Stream<Item = ()> + Send>>,
}

impl Reloads {
    /// Those counted from now on.
    pub(super) fn new(mut told: watch::Receiver<u64>) -> Reloads {
        told.mark_unchanged();
        Reloads {
            changes: Box::pin(changes(told)),
        }
    }

    /// Waits for the next one. `None` when the worker is gone. Cancel-safe.
    pub async fn recv(&mut self) -> Option<()> {
        futures_util::StreamExt::next(self).await
    }
}

impl Stream for Reloads {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.changes.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads").finish_non_exhaustive()
    }
}
