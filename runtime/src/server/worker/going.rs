//! The future of a server that is about to stop.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::server::line::Told;

/// Ready once the server is going, and from then on: what [`Worker::going`](crate::server::Worker::going) gives.
///
/// It may be cloned, polled again after it was ready, and dropped at any time: nothing is lost.
#[must_use = "futures do nothing unless awaited"]
pub struct Going {
    told: Arc<Told>,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Going {
    pub(crate) fn new(told: Arc<Told>) -> Going {
        let waiting = Box::pin(told.stop.gone());
        Going { told, waiting }
    }
}

impl Future for Going {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.told.stop.is_going() {
            true => Poll::Ready(()),
            false => self.waiting.as_mut().poll(cx),
        }
    }
}

impl Clone for Going {
    fn clone(&self) -> Going {
        Going::new(Arc::clone(&self.told))
    }
}

impl fmt::Debug for Going {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Going")
            .field("is_going", &self.told.stop.is_going())
            .finish()
    }
}
