//! Programs that are cut: dropped, left by a panic, or aborted, before each of their polls in turn.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aioxide::{Exit, drain};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::PATIENCE;

/// A program that can be run as a task.
pub type Program<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How a program is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// Whoever polls it drops it.
    Drop,
    /// Whoever polls it panics; it is dropped in the unwinding.
    Panic,
    /// The task is aborted from outside.
    Abort,
}

impl Cut {
    /// Each of them.
    pub const ALL: [Cut; 3] = [Cut::Drop, Cut::Panic, Cut::Abort];

    /// What contexts see that are not being left yet.
    pub fn exit(self) -> Exit {
        match self {
            Cut::Drop | Cut::Abort => Exit::Cancelled,
            Cut::Panic => Exit::Panicked,
        }
    }
}

/// Runs a program to its end, or cuts it before a given poll.
struct CutAt<T> {
    program: Option<Program<T>>,
    polls: usize,
    cut: Cut,
    /// Told when it waits to be aborted.
    abort: Arc<Notify>,
}

impl<T> Future for CutAt<T> {
    /// What the program ended in, if it came to its end.
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.polls == 0 {
            match self.cut {
                Cut::Drop => {
                    self.program = None;
                    return Poll::Ready(None);
                }
                Cut::Panic => panic!("the poll at which it is cut"),
                Cut::Abort => {
                    self.abort.notify_one();
                    return Poll::Pending;
                }
            }
        }
        self.polls -= 1;
        let program = self.program.as_mut().expect("polled after its end");
        program.as_mut().poll(cx).map(Some)
    }
}

/// Runs `program` as a task that is cut before the poll `polls`, and gives what it ended in: `None` if it was cut, or
/// has panicked. Some of its teardowns may be left to [`drain_all`].
pub async fn run<T: Send + 'static>(program: Program<T>, polls: usize, cut: Cut) -> Option<T> {
    let abort = Arc::new(Notify::new());
    let mut task = tokio::spawn(CutAt {
        program: Some(program),
        polls,
        cut,
        abort: Arc::clone(&abort),
    });
    let ended = async {
        tokio::select! {
            ended = &mut task => ended,
            () = abort.notified() => {
                task.abort();
                task.await
            }
        }
    };
    match timeout(PATIENCE, ended).await.expect("it hangs") {
        Ok(ended) => ended,
        Err(error) => {
            assert!(error.is_panic() || cut == Cut::Abort && error.is_cancelled());
            None
        }
    }
}

/// Waits until all is torn down.
pub async fn drain_all() {
    assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
}

/// Runs a program that is cut at 0, then at 1, and so on, until it comes to its end; `run` tells whether it has. Gives
/// where that was.
pub fn exhaust(mut run: impl FnMut(usize) -> bool) -> usize {
    let mut at = 0;
    while !run(at) {
        at += 1;
    }
    at
}
