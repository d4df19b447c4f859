//! Workers that are threads of the supervisor's process.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::server::job::{CarryOut, Run};
use crate::server::line::{Ended, Failure, Line, Message, Told};
use crate::server::report;

/// A thread that runs a worker, an extra or the main context.
pub(crate) struct Thread {
    name: String,
    pub(crate) told: Arc<Told>,
    line: Line,
    kill: CancellationToken,
    thread: JoinHandle<()>,
}

impl Thread {
    pub(crate) fn spawn(run: Run, carry_out: CarryOut) -> io::Result<Thread> {
        let name = run.identity.name.clone();
        let told = Arc::clone(&run.told);
        let line = run.line.clone();
        let kill = CancellationToken::new();
        let thread = std::thread::Builder::new()
            .name(run.identity.comm.clone())
            .spawn({
                let kill = kill.clone();
                move || {
                    // Told also when this thread panics outside the worker's body.
                    let mut last_word = LastWord {
                        line: run.line.clone(),
                        ended: None,
                    };
                    last_word.ended = Some(carry_out(run, &kill));
                }
            })?;
        Ok(Thread {
            name,
            told,
            line,
            kill,
            thread,
        })
    }

    pub(crate) fn ping(&self, number: u64) {
        self.told.ping(number, |message| self.line.say(message));
    }

    /// Drops the worker's future; a loop that is blocked goes on nevertheless.
    pub(crate) fn kill(&self) {
        self.kill.cancel();
    }
}

/// The threads that have told their end and may still run destructors of thread-local values: the user's code,
/// for which the supervisor doesn't wait as long as it has something to do.
pub(crate) struct Leaving {
    /// Each has a copy for as long as it lasts.
    held: mpsc::Sender<()>,
    gone: mpsc::Receiver<()>,
}

impl Leaving {
    pub(crate) fn new() -> Leaving {
        let (held, gone) = mpsc::channel();
        Leaving { held, gone }
    }

    pub(crate) fn add(&self, thread: Thread) {
        let (held, name) = (self.held.clone(), thread.name);
        let thread = thread.thread;
        let joining = std::thread::Builder::new()
            .name("join".to_owned())
            .spawn(move || {
                // Its end, a panic included, has been told by its last word.
                let _ = thread.join();
                drop(held);
            });
        if let Err(error) = joining {
            report::log!(warn, %error, "the thread of {name} isn't waited for");
        }
    }

    /// Waits for all of them, and for `limit` at most. Whether they are gone.
    pub(crate) fn join(self, limit: Duration) -> bool {
        drop(self.held);
        self.gone.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Disconnected)
    }
}

struct LastWord {
    line: Line,
    ended: Option<Ended>,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        let ended = self.ended.take().unwrap_or_else(|| Ended {
            failure: Some(Failure::Died("its thread panicked".to_owned())),
            overran: false,
        });
        self.line.say(Message::Ended(ended));
    }
}
