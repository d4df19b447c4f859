//! What systemd is told, and when. No clock and no socket is in here.

use std::collections::VecDeque;
use std::time::Duration;

use super::store::Change;
use crate::server::supervisor::policy::{Phase, Rolled, Standing};

/// How often systemd is asked for more time.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
/// For how much at a time, so that a late datagram does no harm.
const EXTEND_BY: Duration = Duration::from_secs(15);
/// What the server takes to act on a deadline of its own.
const MARGIN: Duration = Duration::from_secs(3);
/// After how long what didn't go is tried again: at first, and at most.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How soon after the last one a changed status follows, so that a thousand workers that get ready are a few of them.
const STATUS_EVERY: Duration = Duration::from_millis(100);
/// The most bytes of a status, and of the addresses in it.
const STATUS_MAX: usize = 200;
const ADDRESSES_MAX: usize = 100;

/// A datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Ready {
        status: String,
    },
    /// Of a rolling restart. It has the time at which it is sent.
    Reloading,
    Stopping {
        status: String,
    },
    Status(String),
    Extend(Duration),
    Watchdog,
    /// Goes with the socket of this identity.
    Keep {
        called: String,
        identity: u64,
    },
    Remove {
        called: String,
    },
}

impl Notice {
    fn is_of_store(&self) -> bool {
        matches!(self, Notice::Keep { .. } | Notice::Remove { .. })
    }

    /// As systemd reads it.
    pub(super) fn text(&self) -> String {
        match self {
            Notice::Ready { status } => format!("READY=1\nSTATUS={status}"),
            Notice::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_micros()),
            Notice::Stopping { status } => format!("STOPPING=1\nSTATUS={status}"),
            Notice::Status(status) => format!("STATUS={status}"),
            Notice::Extend(by) => format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()),
            Notice::Watchdog => "WATCHDOG=1".to_owned(),
            // A parked socket would be dropped otherwise.
            Notice::Keep { called, .. } => format!("FDSTORE=1\nFDPOLL=0\nFDNAME={called}"),
            Notice::Remove { called } => format!("FDSTOREREMOVE=1\nFDNAME={called}"),
        }
    }
}

fn monotonic_micros() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// What is known of the server.
#[derive(Clone, Debug)]
pub(in crate::server::supervisor) struct Seen {
    pub(in crate::server::supervisor) standing: Standing,
    /// There are ready workers, and the event loop of none of them turns.
    pub(in crate::server::supervisor) all_blocked: bool,
    pub(in crate::server::supervisor) addresses: String,
}

/// Remembers what has been said.
#[derive(Debug)]
pub(super) struct Notices {
    /// What has to arrive, and in this order.
    pending: VecDeque<Notice>,
    ready: bool,
    stopping: bool,
    reload: Reload,
    /// The last thing worth telling beside how the server stands.
    remark: String,
    status: String,
    said_status: String,
    status_at: Duration,
    /// When more time is asked for next, while something goes on that takes time.
    extend_at: Option<Duration>,
    until: Duration,
    /// How often the watchdog is fed, and when next.
    watchdog: Option<(Duration, Duration)>,
    all_blocked: bool,
    /// Nothing goes before.
    retry_at: Duration,
    retry: Duration,
}

/// A rolling restart that systemd is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reload {
    None,
    Asked,
    Said,
}

impl Notices {
    pub(super) fn new(watchdog: Option<Duration>) -> Notices {
        Notices {
            pending: VecDeque::new(),
            ready: false,
            stopping: false,
            reload: Reload::None,
            remark: String::new(),
            status: String::new(),
            said_status: String::new(),
            status_at: Duration::ZERO,
            extend_at: None,
            until: Duration::ZERO,
            watchdog: watchdog.map(|interval| (interval / 2, Duration::ZERO)),
            all_blocked: false,
            retry_at: Duration::ZERO,
            retry: RETRY,
        }
    }

    /// A rolling restart of all workers has been asked for.
    pub(super) fn reload(&mut self) {
        self.reload = Reload::Asked;
    }

    /// Something worth telling has happened.
    pub(super) fn remark(&mut self, remark: String) {
        self.remark = remark;
    }

    /// What is kept for the next run has changed. Whether something is to be let go of.
    pub(super) fn changed(&mut self, changes: Vec<Change>) -> bool {
        let changes = changes.into_iter().map(|change| match change {
            Change::Keep { called, identity } => Notice::Keep { called, identity },
            Change::Remove { called } => Notice::Remove { called },
        });
        let before = self.pending.len();
        self.pending.extend(changes);
        let mut new = self.pending.iter().skip(before);
        new.any(|notice| matches!(notice, Notice::Remove { .. }))
    }

    /// Takes in how the server stands now.
    pub(super) fn see(&mut self, now: Duration, seen: Seen) {
        let standing = &seen.standing;
        self.status = status(&seen, &self.remark);
        self.all_blocked = seen.all_blocked;
        match standing.phase {
            Phase::Starting => {}
            Phase::Serving => {
                if !std::mem::replace(&mut self.ready, true) {
                    self.push_ready();
                }
                if self.reload == Reload::Asked {
                    self.pending.push_back(Notice::Reloading);
                    self.reload = Reload::Said;
                }
                if self.reload == Reload::Said && !standing.reloading {
                    self.push_ready();
                    self.reload = Reload::None;
                }
            }
            Phase::Going(_) | Phase::Stopping(_) | Phase::Ended => {
                if !std::mem::replace(&mut self.stopping, true) {
                    let status = self.status.clone();
                    self.pending.retain(Notice::is_of_store);
                    self.pending.push_back(Notice::Stopping { status });
                    // What counts from now on is another timeout of systemd's.
                    self.extend_at = None;
                }
            }
        }
        let goes_on = standing.phase != Phase::Serving || standing.roll.is_some();
        let is_ahead = |until: &Duration| until.saturating_add(MARGIN) > now;
        match standing.until.filter(|until| goes_on && is_ahead(until)) {
            Some(until) => {
                self.until = until;
                self.extend_at.get_or_insert(now);
            }
            None => self.extend_at = None,
        }
    }

    fn push_ready(&mut self) {
        let status = self.status.clone();
        self.pending.push_back(Notice::Ready { status });
    }

    /// What to send now. It is to be [tried](Notices::tried).
    pub(super) fn due(&self, now: Duration) -> Option<Notice> {
        if self.retry_at > now {
            return None;
        }
        if let Some(notice) = self.pending.front() {
            return Some(notice.clone());
        }
        if self.watchdog.is_some_and(|(_, at)| at <= now) && !self.all_blocked {
            return Some(Notice::Watchdog);
        }
        if self.extension().is_some_and(|at| at <= now) {
            let left = self.until.saturating_sub(now).saturating_add(MARGIN);
            return Some(Notice::Extend(left.min(EXTEND_BY)));
        }
        let has_changed = self.status != self.said_status && self.status_at <= now;
        has_changed.then(|| Notice::Status(self.status.clone()))
    }

    /// A notice went, or didn't: then it is due again in a while.
    pub(super) fn tried(&mut self, now: Duration, notice: Notice, went: bool) {
        if !went {
            self.retry_at = now + self.retry;
            self.retry = (self.retry * 2).min(RETRY_MAX);
            return;
        }
        self.retry = RETRY;
        match notice {
            Notice::Watchdog => {
                if let Some((every, at)) = &mut self.watchdog {
                    *at = now + *every;
                }
            }
            Notice::Extend(_) => self.extend_at = Some(now + EXTEND_EVERY),
            Notice::Reloading | Notice::Keep { .. } | Notice::Remove { .. } => {
                drop(self.pending.pop_front());
            }
            Notice::Status(status) => self.has_said(now, status),
            Notice::Ready { status } | Notice::Stopping { status } => {
                self.pending.pop_front();
                self.has_said(now, status);
            }
        }
    }

    /// When more time is asked for next.
    fn extension(&self) -> Option<Duration> {
        let end = self.until.saturating_add(MARGIN);
        self.extend_at.filter(|at| *at < end)
    }

    fn has_said(&mut self, now: Duration, status: String) {
        self.said_status = status;
        self.status_at = now + STATUS_EVERY;
    }

    /// When something is due next, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let pending = (!self.pending.is_empty()).then_some(Duration::ZERO);
        let status = (self.status != self.said_status).then_some(self.status_at);
        // That loops turn again is seen when it happens.
        let watchdog = self.watchdog.filter(|_| !self.all_blocked);
        let due = pending
            .into_iter()
            .chain(status)
            .chain(self.extension())
            .chain(watchdog.map(|(_, at)| at));
        due.min().map(|at| at.max(self.retry_at))
    }
}

/// One line for `systemctl status`.
fn status(seen: &Seen, remark: &str) -> String {
    let Standing {
        phase,
        ready,
        wanted,
        roll,
        ..
    } = seen.standing;
    let state = match (phase, roll) {
        (Phase::Going(reason) | Phase::Stopping(reason), _) => format!("stopping: {reason}"),
        (Phase::Ended, _) => "stopping".to_owned(),
        (Phase::Starting, _) => format!("starting: {ready} of {wanted} workers are ready"),
        (Phase::Serving, Some(Rolled { replaced, of })) => {
            format!("rolling restart: {replaced} of {of} workers replaced")
        }
        (Phase::Serving, None) => {
            let workers = match (ready, wanted) {
                (1, 1) => "1 worker is ready".to_owned(),
                (ready, wanted) if ready == wanted => format!("{ready} workers are ready"),
                (ready, wanted) => format!("{ready} of {wanted} workers are ready"),
            };
            match safe(&seen.addresses, ADDRESSES_MAX) {
                addresses if addresses.is_empty() => workers,
                addresses => format!("{workers}, listening on {addresses}"),
            }
        }
    };
    match remark {
        "" => safe(&state, STATUS_MAX),
        remark => safe(&format!("{state}; {remark}"), STATUS_MAX),
    }
}

/// The text on one line, of so many bytes at most. A line of its own could say anything to systemd.
fn safe(text: &str, most: usize) -> String {
    const CUT: &str = "…";
    let spaced = |c: char| if c.is_control() { ' ' } else { c };
    if text.len() <= most {
        let safe: String = text.chars().map(spaced).collect();
        return safe;
    }
    let end = (0..=most - CUT.len())
        .rev()
        .find(|end| text.is_char_boundary(*end));
    let mut cut: String = text[..end.unwrap_or(0)].chars().map(spaced).collect();
    cut.push_str(CUT);
    cut
}

#[cfg(test)]
mod tests;
