//! The requests of an HTTP/2 connection: a task each, none of which outlives the connection.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::task::JoinSet;

/// Runs the requests of an HTTP/2 connection: the executor of hyper's builder in [`Http::http2`](super::Http::http2).
#[derive(Clone, Debug, Default)]
pub struct Executor(Rc<RefCell<JoinSet<()>>>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, stream: F) {
        self.0.borrow_mut().spawn_local(stream);
    }
}

impl Executor {
    /// Lets go of those that have ended. The panics of handlers among them are told.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>, panicked: impl Fn(String)) {
        let mut streams = self.0.borrow_mut();
        while let Poll::Ready(Some(ended)) = streams.poll_join_next(cx) {
            if let Err(error) = ended {
                panicked(error.to_string());
            }
        }
    }

    /// Drops those that still run when it is dropped. Each of them has a clone of this itself.
    pub(super) fn owned(&self) -> Owned {
        Owned(self.clone())
    }
}

pub(super) struct Owned(Executor);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.0.borrow_mut().abort_all();
    }
}
