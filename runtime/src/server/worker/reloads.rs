//! The stream of SIGUSR1.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use tokio::sync::watch;

use crate::server::line::Told;

/// Each change of the count, until the stop; one that came before the stop is told.
fn changes(
    reloads: watch::Receiver<u64>,
    stopped: impl Future<Output = ()> + Send,
) -> impl Stream<Item = ()> + Send {
    let both = (reloads, Box::pin(stopped));
    let changes = futures_util::stream::unfold(both, async |(mut reloads, mut stopped)| {
        tokio::select! {
            biased;
            changed = reloads.changed() => changed.ok().map(|()| ((), (reloads, stopped))),
            () = &mut stopped => None,
        }
    });
    changes.fuse()
}

/// The SIGUSR1 that the server gets, from [`Worker::reloads`](crate::Worker::reloads). It ends when the worker is
/// asked to stop.
pub struct Reloads {
    changes: Pin<Box<dyn Stream<Item = ()> + Send>>,
}

impl Reloads {
    /// Those counted from now on.
    pub(super) fn new(told: &Told) -> Reloads {
        let mut reloads = told.reloads.subscribe();
        reloads.mark_unchanged();
        Reloads {
            changes: Box::pin(changes(reloads, told.stop.told())),
        }
    }

    /// Waits for the next one. `None` once the worker is asked to stop. Cancel-safe.
    pub async fn recv(&mut self) -> Option<()> {
        self.next().await
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

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::time::Instant;

    use crate::server::{Stop, StopReason};

    #[tokio::test]
    async fn it_gives_what_was_told_since_and_ends_at_the_stop() {
        let told = Told::default();
        told.reload();
        let mut reloads = Reloads::new(&told);
        told.reload();
        assert_eq!(reloads.recv().await, Some(()));
        let stop = Stop::new(StopReason::Completed, Instant::now());
        told.reload();
        told.stop.set(stop);
        assert_eq!(reloads.recv().await, Some(()), "it came before");
        assert_eq!(reloads.recv().await, None);
        told.reload();
        assert_eq!(reloads.recv().await, None);
    }
}
