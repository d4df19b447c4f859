//! How a process finds out what it was started as: a worker, or what replaces a supervisor.

use std::env;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::parent_id;
use std::path::Path;

use rustix::fs::FileType;

use crate::server::line::role_variable::{Kin, ROLE, Role, SUCCESSOR, is_successor};
use crate::server::report;

/// What this process has been started as.
#[derive(Debug)]
pub(crate) enum Started {
    ByUser,
    /// By a supervisor that it is to replace.
    AsSuccessor {
        /// This end of the socket between them, until it is taken.
        socket: Option<OwnedFd>,
    },
    /// By a supervisor.
    AsWorker {
        /// This end of the control socket, until it is taken.
        socket: Option<OwnedFd>,
        role: Role,
    },
}

/// Finds out, and if there is a socket to whoever started it, takes that off stdin, so that no grandchild gets it.
///
/// To be called once: after that, stdin tells nothing.
pub(crate) fn started() -> io::Result<Started> {
    let (role, successor) = (env::var_os(ROLE), env::var_os(SUCCESSOR));
    let socket = match role.is_some() || successor.is_some() {
        true => rustix::fs::fstat(io::stdin())
            .ok()
            .filter(|found| FileType::from_raw_mode(found.st_mode) == FileType::Socket)
            .map(|found| found.st_ino),
        false => None,
    };
    let successor = successor.unwrap_or_default();
    if socket.is_some_and(|socket| is_successor(&successor.to_string_lossy(), socket)) {
        let socket = Some(take_stdin()?);
        return Ok(Started::AsSuccessor { socket });
    }
    let Some(role) = role else {
        return Ok(Started::ByUser);
    };
    let (group, session) = group_and_session().unwrap_or_default();
    let kin = Kin {
        parent: parent_id(),
        leads_group: group == std::process::id(),
        leads_session: session == std::process::id(),
    };
    let Some(role) = Role::read(&role.to_string_lossy(), socket, kin)? else {
        return Ok(Started::ByUser);
    };
    let socket = Some(take_stdin()?);
    Ok(Started::AsWorker { socket, role })
}

fn take_stdin() -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    rustix::stdio::dup2_stdin(fs::File::open("/dev/null")?)?;
    // Started as `/proc/self/fd/7`, it is called `7`.
    let arg0 = env::args_os().next().unwrap_or_default();
    name_process(Path::new(&arg0).file_name().unwrap_or(&arg0).as_bytes());
    Ok(socket)
}

/// The ids of this process's group and session. The system calls can't tell of one whose leader is in another namespace.
fn group_and_session() -> Option<(u32, u32)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name before may hold anything, parentheses included.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Names the process in the eyes of `ps` and `top`.
pub(crate) fn name_process(name: &[u8]) {
    if let Err(error) = fs::write("/proc/self/comm", name) {
        report::log!(debug, %error, "the worker's process keeps the name that it has");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::process::Command;

    use crate::server::line::wire::{ToSupervisor, WorkerEnd};

    /// The other half of the next test: does nothing unless that has started it.
    #[test]
    fn as_a_worker() {
        let Started::AsWorker { socket, role } = started().unwrap() else {
            return;
        };
        assert_eq!((role.run.name.as_str(), role.run.number), ("a", 5));
        let stdin = fs::read_link("/proc/self/fd/0").unwrap();
        assert_eq!(stdin, Path::new("/dev/null"));
        let flags = rustix::io::fcntl_getfd(socket.as_ref().unwrap()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let end = WorkerEnd::new(socket.unwrap()).unwrap();
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        end.sender()
            .send(&ToSupervisor::Hello {
                pid: std::process::id(),
            })
            .unwrap();
        end.sender().send(&ToSupervisor::Reported(name)).unwrap();

        let grandchild = Command::new(env::current_exe().unwrap())
            .args([
                "-q",
                "--exact",
                "server::worker::started::tests::as_a_grandchild",
            ])
            .output()
            .unwrap();
        assert!(
            grandchild.status.success(),
            "{}",
            String::from_utf8_lossy(&grandchild.stdout)
        );
        end.sender().send(&ToSupervisor::Ready).unwrap();
    }

    /// Inherits a worker's environment, but is none.
    #[test]
    fn as_a_grandchild() {
        let parent_is_worker = env::var_os(ROLE).is_some();
        let started = started();
        assert!(
            matches!(started, Ok(Started::ByUser)) || !parent_is_worker,
            "{started:?}"
        );
    }
}
