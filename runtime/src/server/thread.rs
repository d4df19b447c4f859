//! Workers that are threads of the supervisor's process.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::event_loop::{self, Ended, Failure};
use super::job::Body;
use super::link::Message;
use super::worker::Shared;

/// A thread that runs a worker or an extra.
pub(crate) struct Thread {
    pub(crate) worker: Arc<Shared>,
    kill: CancellationToken,
    thread: JoinHandle<()>,
}

impl Thread {
    pub(crate) fn spawn(worker: Shared, body: Body, patience: Duration) -> io::Result<Thread> {
        let worker = Arc::new(worker);
        let kill = CancellationToken::new();
        let thread = std::thread::Builder::new()
            .name(worker.name().to_owned())
            .spawn({
                let (worker, kill) = (Arc::clone(&worker), kill.clone());
                move || {
                    // Told also when this thread panics outside the worker's body.
                    let mut last_word = LastWord {
                        worker: &worker,
                        ended: None,
                    };
                    last_word.ended = Some(event_loop::run(&worker, body, patience, &kill));
                }
            })?;
        Ok(Thread {
            worker,
            kill,
            thread,
        })
    }

    /// Drops the worker's future; a loop that is blocked goes on nevertheless.
    pub(crate) fn kill(&self) {
        self.kill.cancel();
    }

    /// Waits for the thread, which has told its end.
    pub(crate) fn join(self) {
        // Its end, a panic included, has been told by its last word.
        let _ = self.thread.join();
    }
}

struct LastWord<'w> {
    worker: &'w Shared,
    ended: Option<Ended>,
}

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        let ended = self.ended.take().unwrap_or_else(|| Ended {
            failure: Some(Failure::Died("its thread panicked".to_owned())),
            overran: false,
        });
        self.worker.link.send(Message::Ended(ended));
    }
}
