//! What the signals ask a supervisor for.

use std::fs::File;
use std::io;

use super::asked::Asked;
use crate::server::Signal;
use crate::server::signals::Handlers;

pub(crate) struct Signals {
    handlers: Handlers,
    stop: Vec<Signal>,
    upgrade: Option<Signal>,
    had_terminal: bool,
}

impl Signals {
    /// Installs the handlers. From here on none of these signals ends the process by itself.
    pub(crate) fn install(stop: &[Signal], upgrade: Option<Signal>) -> io::Result<Signals> {
        Ok(Signals {
            handlers: Handlers::install(stop, upgrade)?,
            upgrade,
            stop: stop.to_vec(),
            had_terminal: !terminal().is_err_and(is_gone),
        })
    }

    /// The next signal that asks for something; stop signals first.
    pub(crate) async fn next(&mut self) -> Asked {
        loop {
            let signal = self.handlers.next().await;
            if let Some(asked) = self.asked(signal) {
                return asked;
            }
        }
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
            Signal::SIGTTIN | Signal::SIGTTOU => None,
            signal if self.upgrade == Some(signal) => Some(Asked::Upgrade),
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

/// Whether this process has a controlling terminal now.
#[cfg(feature = "process")]
pub(super) fn has_terminal() -> bool {
    terminal().is_ok()
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
