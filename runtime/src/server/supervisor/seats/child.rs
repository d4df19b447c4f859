//! A started worker process, and the hold on it that no other process of its pid can be taken for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A started worker process. Its owner waits for its end: dropped, it would stay a zombie.
pub(crate) struct Process {
    child: Child,
    killer: Killer,
    /// Readable once the process has ended, whatever becomes of SIGCHLD.
    pidfd: AsyncFd<Arc<OwnedFd>>,
}

/// Kills a worker process, from any thread; never another one of the same pid.
#[derive(Clone)]
pub(crate) struct Killer(Arc<OwnedFd>);

impl Killer {
    /// SIGTERM. To a process that has ended, nothing happens.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.send(rustix::process::Signal::TERM)
    }

    /// To a process that has ended, nothing happens.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.send(rustix::process::Signal::KILL)
    }

    fn send(&self, signal: rustix::process::Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Process {
    /// Must be called in a runtime.
    pub(crate) fn new(mut child: Child) -> io::Result<Process> {
        match watch(&child) {
            Ok(pidfd) => Ok(Process {
                child,
                killer: Killer(Arc::clone(pidfd.get_ref())),
                pidfd,
            }),
            Err(error) => {
                // Out of descriptors, most likely.
                give_up(&mut child)?;
                Err(error)
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

    /// Whether the process has ended with 0, once it has; its parent can still learn it too. Loses nothing when dropped.
    pub(crate) async fn ended_unreaped(&mut self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            let of = WaitId::PidFd(self.pidfd.get_ref().as_fd());
            if let Some(status) = rustix::process::waitid(of, options)? {
                return Ok(status.exit_status() == Some(0));
            }
            self.pidfd.readable().await?.clear_ready();
        }
    }

    /// How the process ended, once it has. Loses nothing when dropped.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            self.pidfd.readable().await?.clear_ready();
        }
    }
}

// What the successors of this constructor, which are unsafe, ask for: an owned descriptor stays open, and the same.
#[allow(deprecated)]
fn watch(child: &Child) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    let pidfd = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    AsyncFd::with_interest(Arc::new(pidfd), Interest::READABLE)
}

/// To be called by who alone may wait for it, and hasn't: until then its pid is its own.
fn give_up(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}
