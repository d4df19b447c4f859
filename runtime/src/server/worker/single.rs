//! The lease of a worker's timers with a plain `single`: the supervisor says which worker runs them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::shared::Shared;
use crate::server::line::{Reached, SingleAnswer, SingleCall};
use crate::timer::lease::{BoxLease, Held, Lease, LeaseError, Owner, Progress, Token};
use crate::timer::single::install;

/// Timers that are started on this thread go by the supervisor until this is dropped.
pub(super) struct Installed(());

impl Installed {
    pub(super) fn new(lease: BoxLease) -> Installed {
        install(Some(lease));
        Installed(())
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        install(None);
    }
}

pub(super) fn lease(worker: &Arc<Shared>) -> BoxLease {
    BoxLease::new(SupervisorsLease {
        worker: Arc::clone(worker),
        refused: Mutex::default(),
    })
}

/// A lease is held until it is given up or the worker is gone: the supervisor knows when that is.
struct SupervisorsLease {
    worker: Arc<Shared>,
    /// By the timer's name: how often the supervisor had told that something is free when this was refused.
    refused: Mutex<HashMap<String, u64>>,
}

impl SupervisorsLease {
    async fn ask(&self, call: SingleCall) -> Result<SingleAnswer, LeaseError> {
        const ACTION: &str = "ask the server's supervisor which worker runs a timer";
        match self.worker.line.single(call).await {
            Some(SingleAnswer::Refused(why)) => Err(LeaseError::store(ACTION, why)),
            Some(answer) => Ok(answer),
            None => Err(LeaseError::store(ACTION, "it has ended")),
        }
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease for SupervisorsLease {
    async fn hold(
        &self,
        name: &str,
        owner: &Owner,
        _ttl: Duration,
    ) -> Result<Option<Held>, LeaseError> {
        // Before it is asked: what is told after the refusal is news.
        let told = *self.worker.told.freed.borrow();
        let call = SingleCall::Hold {
            name: name.to_owned(),
            owner: owner.to_string(),
        };
        match self.ask(call).await? {
            SingleAnswer::Held { token, last } => Ok(Some(Held {
                token: Token::new(token),
                left: Duration::MAX,
                last: last.map(|Reached { due, done }| {
                    let progress = if done {
                        Progress::Done
                    } else {
                        Progress::Started
                    };
                    (UNIX_EPOCH + Duration::from_nanos(due), progress)
                }),
            })),
            _ => {
                self.refused().insert(name.to_owned(), told);
                Ok(None)
            }
        }
    }

    async fn record(
        &self,
        name: &str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> Result<(), LeaseError> {
        let due = due.duration_since(UNIX_EPOCH).unwrap_or_default();
        let call = SingleCall::Record {
            name: name.to_owned(),
            token: token.get(),
            reached: Reached {
                due: u64::try_from(due.as_nanos()).unwrap_or(u64::MAX),
                done: at == Progress::Done,
            },
        };
        match self.ask(call).await? {
            SingleAnswer::Done => Ok(()),
            _ => Err(LeaseError::stale(name, token)),
        }
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), LeaseError> {
        let call = SingleCall::Release {
            name: name.to_owned(),
            token: token.get(),
        };
        self.ask(call).await.map(drop)
    }

    async fn changed(&self, name: &str, _ttl: Duration) {
        let told = self.refused().get(name).copied();
        let mut freed = self.worker.told.freed.subscribe();
        // It can't be closed while this lease has the other end.
        let _ = freed.wait_for(|count| Some(*count) != told).await;
    }
}
