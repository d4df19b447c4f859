//! The handlers of the signals that a server's processes catch: the supervisor to act on them, its workers so that
//! none of them dies of one.

use std::io;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use super::{Signal, report};

pub(crate) struct Handlers {
    /// Stop signals first.
    streams: Vec<(Signal, Stream)>,
}

impl Handlers {
    /// From here on none of these signals ends the process by itself. To be called in a runtime.
    ///
    /// `more` are handled beside those that every server has.
    pub(crate) fn install(stop: &[Signal], more: Option<Signal>) -> io::Result<Handlers> {
        let others = [
            Signal::SIGHUP,
            Signal::SIGUSR1,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
        ];
        let mut wanted: Vec<Signal> = others
            .into_iter()
            .chain(more.filter(|more| !others.contains(more)))
            .filter(|other| !stop.contains(other))
            .collect();
        // One that comes in the microseconds in which it gets its handler is lost. They last longest for the
        // first, whose code has yet to be paged in; these, nobody sends to a server that starts.
        wanted.extend_from_slice(stop);
        unblock(&wanted)?;
        // Started under nohup: a hang-up is none of this program's business.
        if is_ignored(Signal::SIGHUP) {
            wanted.retain(|signal| *signal != Signal::SIGHUP);
        }
        let mut streams = Vec::new();
        for wanted in wanted {
            let stream = signal(SignalKind::from_raw(wanted.as_raw())).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot handle {wanted}: {error}"))
            })?;
            streams.push((wanted, stream));
        }
        streams.sort_by_key(|(signal, _)| !stop.contains(signal));
        Ok(Handlers { streams })
    }

    /// The next signal; of several, stop signals first.
    pub(crate) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| self.poll_any(cx)).await
    }

    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        for (signal, stream) in &mut self.streams {
            if let Poll::Ready(Some(())) = stream.poll_recv(cx) {
                return Poll::Ready(*signal);
            }
        }
        Poll::Pending
    }
}

/// What the launcher has blocked would never arrive, and the launcher's mask is handed down: to this process's threads and
/// to the processes that it starts. To be called before there are any.
fn unblock(wanted: &[Signal]) -> io::Result<()> {
    use nix::sys::signal::{SigSet, Signal as Known};

    let blocked = SigSet::thread_get_mask()?;
    // The kernel's mask can tell only of what nix knows; real-time signals aren't among that.
    let raw = wanted.iter().map(|signal| signal.as_raw());
    let inherited: SigSet = raw
        .chain([Known::SIGCHLD as i32])
        .filter_map(|raw| Known::try_from(raw).ok())
        .filter(|signal| blocked.contains(*signal))
        .collect();
    for signal in &inherited {
        report::log!(
            debug,
            "{signal} was blocked when the server was started; it no longer is"
        );
    }
    Ok(inherited.thread_unblock()?)
}

/// Whether the signal is ignored now, as far as the system tells.
fn is_ignored(signal: Signal) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return false;
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_nobody_ignored_is_not_ignored() {
        assert!(!is_ignored(Signal::SIGALRM));
    }
}
