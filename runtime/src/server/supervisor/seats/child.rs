//! A started worker process, and the hold on it that no other process of its pid can be taken for.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use tokio::signal::unix::Signal as SignalStream;

/// A started worker process. Its owner waits for its end: dropped, it would stay a zombie.
pub(crate) struct Process {
    child: Child,
    killer: Killer,
    deaths: SignalStream,
}

/// Kills a worker process, from any thread; never another one of the same pid.
#[derive(Clone)]
pub(crate) struct Killer(Arc<OwnedFd>);

impl Killer {
    /// To a process that has ended, nothing happens.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Process {
    pub(crate) fn new(mut child: Child, deaths: SignalStream) -> io::Result<Process> {
        let pid = Pid::from_child(&child);
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Process {
                child,
                killer: Killer(Arc::new(pidfd)),
                deaths,
            }),
            Err(error) => {
                // Out of descriptors, most likely.
                give_up(&mut child)?;
                Err(error.into())
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends one that can't be talked to.
    pub(crate) fn give_up(mut self) -> io::Result<()> {
        give_up(&mut self.child)
    }

    pub(crate) fn killer(&self) -> &Killer {
        &self.killer
    }

    /// How the process ended, once it has. Loses nothing when dropped.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if self.deaths.recv().await.is_none() {
                return Err(io::Error::other(
                    "the runtime no longer hears of ended processes",
                ));
            }
        }
    }
}

/// To be called by who alone may wait for it, and hasn't: until then its pid is its own.
fn give_up(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}
