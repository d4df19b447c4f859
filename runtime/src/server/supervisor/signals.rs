//! The signals that a supervisor listens to.

use std::fs::File;
use std::io;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::server::Signal;

/// What a signal asks a supervisor for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Stop(Signal),
    Reload,
    ScaleUp,
    ScaleDown,
    Tell,
}

pub(crate) struct Signals {
    streams: Vec<(Signal, Stream)>,
    stop: Vec<Signal>,
    had_terminal: bool,
}

impl Signals {
    /// Installs the handlers. From here on none of these signals ends the process by itself.
    pub(crate) fn install(stop: &[Signal]) -> io::Result<Signals> {
        let others = [
            Signal::SIGHUP,
            Signal::SIGUSR1,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
        ];
        let mut wanted: Vec<Signal> = others
            .into_iter()
            .filter(|other| !stop.contains(other))
            .collect();
        // One that comes in the microseconds in which it gets its handler is lost. They last longest for the
        // first, whose code has yet to be paged in; these, nobody sends to a server that starts.
        wanted.extend_from_slice(stop);
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
        Ok(Signals {
            streams,
            stop: stop.to_vec(),
            had_terminal: !terminal().is_err_and(is_gone),
        })
    }

    /// The next signal that asks for something; stop signals first.
    pub(crate) async fn next(&mut self) -> Asked {
        loop {
            let signal = std::future::poll_fn(|cx| self.poll_any(cx)).await;
            if let Some(asked) = self.asked(signal) {
                return asked;
            }
        }
    }

    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        for (signal, stream) in &mut self.streams {
            if let Poll::Ready(Some(())) = stream.poll_recv(cx) {
                return Poll::Ready(*signal);
            }
        }
        Poll::Pending
    }

    fn asked(&self, signal: Signal) -> Option<Asked> {
        match signal {
            signal if self.stop.contains(&signal) => Some(Asked::Stop(signal)),
            // The terminal that this server was started on has been closed.
            Signal::SIGHUP if self.had_terminal && terminal().is_err_and(is_gone) => {
                Some(Asked::Stop(signal))
            }
            Signal::SIGHUP => Some(Asked::Reload),
            Signal::SIGUSR1 => Some(Asked::Tell),
            Signal::SIGTTIN if self.scaling_is_meant() => Some(Asked::ScaleUp),
            Signal::SIGTTOU if self.scaling_is_meant() => Some(Asked::ScaleDown),
            _ => None,
        }
    }

    /// The terminal sends SIGTTIN and SIGTTOU itself, to programs in its background.
    fn scaling_is_meant(&self) -> bool {
        match terminal() {
            Ok(terminal) => rustix::termios::tcgetpgrp(terminal)
                .is_ok_and(|group| group == rustix::process::getpgrp()),
            Err(error) => !self.had_terminal || is_gone(error),
        }
    }
}

fn terminal() -> io::Result<File> {
    File::open("/dev/tty")
}

/// Whether that is why a terminal can't be opened. A process that is out of descriptors still has its own.
fn is_gone(error: io::Error) -> bool {
    use rustix::io::Errno;

    matches!(
        Errno::from_io_error(&error),
        Some(Errno::NXIO | Errno::IO | Errno::NOENT)
    )
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
