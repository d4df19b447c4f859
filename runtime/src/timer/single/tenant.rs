//! A timer and its lease: carries out what the [`Claim`] decides.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use super::claim::{Answer, Claim, Command, Delivery, Granted, Recorded, Standing, Terms};
use crate::panic;
use crate::timer::lease::{BoxLease, Held, Lease, LeaseError, Owner, Progress, Token};
use crate::timer::schedule::{NEVER, Nanos};
use crate::timer::shared::nanos;
use crate::timer::wall::{at_epoch, since_epoch};

/// What the lease was asked, and when its answer is no longer waited for.
type Pending<T> = Option<(Pin<Box<dyn Future<Output = T> + Send>>, Nanos)>;

/// How long an answer is waited for at most.
const LONGEST_CALL: Duration = Duration::from_secs(5);

/// What has happened that the timer has to know.
#[derive(Clone, Copy, Debug)]
pub(in crate::timer) enum Event {
    /// It runs from now on. `last` is the due time up to which all has been done.
    Taken { last: Option<Nanos> },
    /// The tick of this due time may start.
    Start(Nanos),
}

pub(in crate::timer) struct Tenant {
    pub(in crate::timer) claim: Claim,
    lease: BoxLease,
    name: String,
    owner: Owner,
    ttl: Duration,
    hold: Pending<Result<Option<Held>, LeaseError>>,
    wait: Pending<()>,
    /// How far the work is, or that the lease is given up.
    write: Pending<Result<(), LeaseError>>,
    written: Option<Nanos>,
    /// When a lease that can't be released is left to itself.
    leave_by: Option<Nanos>,
    guard: Arc<Guard>,
}

/// Tells ticks that run beside each other, before each is polled, whether the lease is over.
pub(in crate::timer) struct Guard {
    clock: Clock,
    until: AtomicU64,
}

impl Guard {
    /// `now` is tokio's.
    pub(in crate::timer) fn is_over(&self, now: Nanos) -> bool {
        self.clock.elapsed().max(now) >= self.until.load(Relaxed)
    }
}

impl Tenant {
    pub(in crate::timer) fn new(
        lease: BoxLease,
        name: &str,
        ttl: Duration,
        terms: Terms,
    ) -> Tenant {
        Tenant {
            claim: Claim::new(terms),
            lease,
            name: name.to_owned(),
            owner: Owner::unique(),
            ttl,
            hold: None,
            wait: None,
            write: None,
            written: None,
            leave_by: None,
            guard: Arc::new(Guard {
                clock: Clock::new(),
                until: AtomicU64::new(0),
            }),
        }
    }

    /// On the clock of the lease, which counts suspension; `now` is tokio's.
    pub(in crate::timer) fn now(&self, now: Nanos) -> Nanos {
        self.guard.clock.elapsed().max(now)
    }

    pub(in crate::timer) fn guard(&self) -> Arc<Guard> {
        Arc::clone(&self.guard)
    }

    pub(in crate::timer) fn standing(&self, now: Nanos) -> Standing {
        self.claim.standing(self.now(now))
    }

    pub(in crate::timer) fn judge(&mut self, now: Nanos) -> Standing {
        let own = self.now(now);
        let standing = self.claim.judge(own);
        self.guard.until.store(self.claim.drop_at(), Relaxed);
        standing
    }

    pub(in crate::timer) fn token(&self) -> Option<Token> {
        self.claim.token()
    }

    /// What tokio's clock will show then.
    pub(in crate::timer) fn in_tokios(&self, at: Nanos, now: Nanos) -> Nanos {
        now.saturating_add(at.saturating_sub(self.now(now)))
    }

    /// When it is to be polled again, on tokio's clock.
    pub(in crate::timer) fn wake_at(&self, now: Nanos) -> Nanos {
        let own = self.now(now);
        let by = |pending: Option<Nanos>| pending.unwrap_or(NEVER);
        let wake_at = self
            .claim
            .wake_at(own)
            .min(by(self.leave_by))
            .min(by(self.hold.as_ref().map(|(_, by)| *by)))
            .min(by(self.write.as_ref().map(|(_, by)| *by)));
        if wake_at == NEVER {
            return NEVER;
        }
        now.saturating_add(wake_at.saturating_sub(own))
    }

    /// Gives the lease up. True once nothing is left to be done, or to be waited for.
    pub(in crate::timer) fn leave(&mut self, now: Nanos) -> bool {
        let own = self.now(now);
        self.claim.leave();
        let by = self.answer_by(own);
        let leave_by = *self.leave_by.get_or_insert(by);
        if self.claim.has_left() {
            return true;
        }
        if own >= leave_by {
            panic::guarded(|| {
                tracing::warn!(
                    timer = self.name,
                    "the lease could not be released in time; it is over when its ttl is"
                );
            });
        }
        own >= leave_by
    }

    /// The record of this due time is under way: it may have been written or not.
    pub(in crate::timer) fn is_recording(&self, due: Nanos) -> bool {
        self.write.is_some() && self.written == Some(due)
    }

    pub(in crate::timer) fn poll(&mut self, cx: &mut Context<'_>, now: Nanos) -> Option<Event> {
        let event = self.poll_lease(cx, now);
        self.guard.until.store(self.claim.drop_at(), Relaxed);
        event
    }

    fn poll_lease(&mut self, cx: &mut Context<'_>, now: Nanos) -> Option<Event> {
        loop {
            let own = self.now(now);
            while let Some(command) = self.claim.command(own) {
                self.carry_out(command, own);
            }
            if let Some(answer) = poll_pending(&mut self.hold, cx, own) {
                let answer = answer.unwrap_or_else(|| Err(self.unanswered()));
                let last = match &answer {
                    Ok(Some(held)) => held.last,
                    _ => None,
                };
                let answer = self.read(answer);
                let own = self.now(now);
                if self.claim.answered(own, answer) {
                    return Some(Event::Taken {
                        last: last.map(|(due, at)| match at {
                            Progress::Done => since_epoch(due),
                            // It wasn't done, where that counts.
                            Progress::Started => since_epoch(due).saturating_sub(u64::from(
                                self.claim.delivery() == Delivery::AtLeastOnce,
                            )),
                        }),
                    });
                }
                continue;
            }
            if poll_pending(&mut self.wait, cx, own).is_some() {
                self.claim.changed(own);
                continue;
            }
            if let Some(result) = poll_pending(&mut self.write, cx, own) {
                let how = self.outcome(result.unwrap_or_else(|| Err(self.unanswered())));
                let Some(due) = self.written.take() else {
                    self.claim.released();
                    continue;
                };
                if let Some(due) = self.claim.recorded(own, due, how) {
                    return Some(Event::Start(due));
                }
                continue;
            }
            return None;
        }
    }

    fn carry_out(&mut self, command: Command, own: Nanos) {
        let (lease, name, ttl) = (self.lease.clone(), self.name.clone(), self.ttl);
        let by = self.answer_by(own);
        match command {
            Command::Hold => {
                let owner = self.owner.clone();
                let hold = async move { lease.hold(&name, &owner, ttl).await };
                self.hold = Some((Box::pin(hold), by));
            }
            Command::Wait => {
                let changed = async move { lease.changed(&name, ttl).await };
                self.wait = Some((Box::pin(changed), NEVER));
            }
            Command::Record(token, due, at) => {
                let record = async move { lease.record(&name, token, at_epoch(due), at).await };
                self.write = Some((Box::pin(record), by));
                self.written = Some(due);
            }
            Command::Release(token) => {
                let release = async move { lease.release(&name, token).await };
                self.write = Some((Box::pin(release), by));
            }
        }
    }

    fn answer_by(&self, own: Nanos) -> Nanos {
        own.saturating_add(nanos((self.ttl / 3).min(LONGEST_CALL)))
    }

    fn unanswered(&self) -> LeaseError {
        let patience = (self.ttl / 3).min(LONGEST_CALL);
        LeaseError::store(
            format!("reach the store of lease `{}`", self.name),
            format!("no answer within {patience:?}"),
        )
    }

    fn read(&self, answer: Result<Option<Held>, LeaseError>) -> Answer {
        match answer {
            Ok(held) => Some(held.map(|held| Granted {
                token: held.token,
                left: if held.left == Duration::MAX {
                    NEVER
                } else {
                    nanos(held.left)
                },
            })),
            Err(error) => {
                self.warn(&error);
                None
            }
        }
    }

    fn outcome(&self, result: Result<(), LeaseError>) -> Recorded {
        match result {
            Ok(()) => Recorded::Written,
            Err(error) => {
                self.warn(&error);
                if error.is_stale() {
                    Recorded::Stale
                } else {
                    Recorded::Failed
                }
            }
        }
    }

    fn warn(&self, error: &LeaseError) {
        panic::guarded(|| tracing::warn!(timer = self.name, %error, "the lease of a timer failed"));
    }
}

/// The answer; `Some(None)` when it is no longer waited for.
fn poll_pending<T>(
    pending: &mut Pending<T>,
    cx: &mut Context<'_>,
    own: Nanos,
) -> Option<Option<T>> {
    let (future, by) = pending.as_mut()?;
    let answer = match future.as_mut().poll(cx) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending if own >= *by => None,
        Poll::Pending => return None,
    };
    *pending = None;
    Some(answer)
}

/// A clock that goes on while the machine is suspended, where there is one.
struct Clock {
    #[cfg(target_os = "linux")]
    start: Nanos,
}

impl Clock {
    fn new() -> Clock {
        Clock {
            #[cfg(target_os = "linux")]
            start: boot_time(),
        }
    }

    #[cfg(target_os = "linux")]
    fn elapsed(&self) -> Nanos {
        boot_time().saturating_sub(self.start)
    }

    #[cfg(not(target_os = "linux"))]
    fn elapsed(&self) -> Nanos {
        0
    }
}

#[cfg(target_os = "linux")]
fn boot_time() -> Nanos {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, rest) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000_000) + rest.unwrap_or(0)
}
