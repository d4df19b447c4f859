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

type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

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
    write: Pending<(Option<(Nanos, Progress)>, Result<(), LeaseError>)>,
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
        let wake_at = self.claim.wake_at(own).min(self.leave_by.unwrap_or(NEVER));
        if wake_at == NEVER {
            return NEVER;
        }
        now.saturating_add(wake_at.saturating_sub(own))
    }

    /// Gives the lease up. True once nothing is left to be done, or to be waited for.
    pub(in crate::timer) fn leave(&mut self, now: Nanos) -> bool {
        let own = self.now(now);
        self.claim.leave();
        let patience = nanos(self.ttl / 3).min(5_000_000_000);
        let leave_by = *self.leave_by.get_or_insert(own.saturating_add(patience));
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

    pub(in crate::timer) fn poll(&mut self, cx: &mut Context<'_>, now: Nanos) -> Option<Event> {
        let event = self.poll_lease(cx, now);
        self.guard.until.store(self.claim.drop_at(), Relaxed);
        event
    }

    fn poll_lease(&mut self, cx: &mut Context<'_>, now: Nanos) -> Option<Event> {
        loop {
            let own = self.now(now);
            while let Some(command) = self.claim.command(own) {
                self.carry_out(command);
            }
            if let Some(answer) = poll_pending(&mut self.hold, cx) {
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
            if poll_pending(&mut self.wait, cx).is_some() {
                self.claim.changed(own);
                continue;
            }
            if let Some((record, result)) = poll_pending(&mut self.write, cx) {
                let how = self.judge(result);
                let Some((due, at)) = record else {
                    self.claim.released();
                    continue;
                };
                if let Some(due) = self.claim.recorded(own, due, at, how) {
                    return Some(Event::Start(due));
                }
                continue;
            }
            return None;
        }
    }

    fn carry_out(&mut self, command: Command) {
        let (lease, name, ttl) = (self.lease.clone(), self.name.clone(), self.ttl);
        match command {
            Command::Hold => {
                let owner = self.owner.clone();
                self.hold = Some(Box::pin(
                    async move { lease.hold(&name, &owner, ttl).await },
                ));
            }
            Command::Wait => {
                self.wait = Some(Box::pin(async move { lease.changed(&name, ttl).await }));
            }
            Command::Record(token, due, at) => {
                self.write = Some(Box::pin(async move {
                    let written = lease.record(&name, token, at_epoch(due), at).await;
                    (Some((due, at)), written)
                }));
            }
            Command::Release(token) => {
                self.write = Some(Box::pin(async move {
                    (None, lease.release(&name, token).await)
                }));
            }
        }
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

    fn judge(&self, result: Result<(), LeaseError>) -> Recorded {
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

fn poll_pending<T>(pending: &mut Pending<T>, cx: &mut Context<'_>) -> Option<T> {
    let future = pending.as_mut()?;
    match future.as_mut().poll(cx) {
        Poll::Ready(output) => {
            *pending = None;
            Some(output)
        }
        Poll::Pending => None,
    }
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
