//! Opens Unix sockets.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use super::calls::{listen, socket};
use crate::server::report;

/// The socket's name in the folder in which it is made.
const MADE: &str = "s";

/// How long the lock of a folder is waited for. Whoever holds it does so for an instant.
const LOCK: Duration = Duration::from_secs(1);

/// Makes the socket in a folder of its own, where nobody else can reach it, and links it to its place once it listens
/// and has its permissions. A link is never put over what is there, so of two servers one fails.
pub(super) fn open(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
    // Nobody could connect to a longer path.
    SocketAddrUnix::new(path)?;
    let fd = socket(AddressFamily::UNIX, SocketType::STREAM)?;
    let making = Making::beside(path)?;
    let made = making.make(&fd, mode)?;
    listen(&fd)?;
    making.put_in_place(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        inode: (made.st_dev, made.st_ino),
    };
    Ok((fd, file))
}

/// The kernel keeps abstract names apart, and forgets them with their sockets.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn open_abstract(name: &[u8]) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::UNIX, SocketType::STREAM)?;
    rustix::net::bind(&fd, &SocketAddrUnix::new_abstract_name(name)?)?;
    listen(&fd)?;
    Ok(fd)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn open_abstract(_: &[u8]) -> io::Result<OwnedFd> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "only Linux has abstract Unix sockets",
    ))
}

/// A folder in which a socket is made, removed on drop.
///
/// The folder around it may belong to somebody else, who may put anything in the place of anything there. So all is
/// done through this folder's descriptor, and nobody else can write to it.
struct Making {
    path: PathBuf,
    folder: OwnedFd,
}

impl Making {
    fn beside(path: &Path) -> io::Result<Making> {
        let mut attempt = 0;
        let path = loop {
            let name = format!(".aioxide-{}-{attempt}", std::process::id());
            let folder = path.with_file_name(name);
            match rustix::fs::mkdir(&folder, Mode::RWXU) {
                Ok(()) => break folder,
                // Of another thread, or left behind by a process of the same id.
                Err(Errno::EXIST) if attempt < 1000 => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        };
        let opened = rustix::fs::open(
            &path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let folder = opened.inspect_err(|_| drop(fs::remove_dir(&path)))?;
        let found = rustix::fs::fstat(&folder)?;
        let for_others = Mode::from_raw_mode(found.st_mode) & (Mode::RWXG | Mode::RWXO);
        if found.st_uid != rustix::process::geteuid().as_raw() || !for_others.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "somebody else changes the folder around it",
            ));
        }
        Ok(Making { path, folder })
    }

    /// Binds the socket, with these permissions.
    fn make(&self, fd: &OwnedFd, mode: u32) -> io::Result<Stat> {
        let mode = Mode::from_raw_mode(mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
        // Its file is created with those of the socket, less what the umask takes.
        rustix::fs::fchmod(fd, mode)?;
        // By the folder's descriptor: somebody who owns the folder around it may have put another one at its path.
        let folder = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
        let folder = match fs::exists(&folder) {
            Ok(true) => folder.into(),
            _ => self.path.clone(),
        };
        rustix::net::bind(fd, &SocketAddrUnix::new(folder.join(MADE))?)?;
        rustix::fs::chmodat(&self.folder, MADE, mode, AtFlags::empty())?;
        Ok(rustix::fs::statat(
            &self.folder,
            MADE,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    fn put_in_place(&self, path: &Path) -> io::Result<()> {
        if self.link_to(path)? {
            return Ok(());
        }
        // Otherwise another server could put its socket there after it was found stale and before it is removed.
        let _lock = lock_folder_of(path)?;
        loop {
            refuse_live(path)?;
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            if self.link_to(path)? {
                return Ok(());
            }
        }
    }

    /// False if something is there.
    fn link_to(&self, path: &Path) -> io::Result<bool> {
        let linked =
            rustix::fs::linkat(&self.folder, MADE, rustix::fs::CWD, path, AtFlags::empty());
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        match rustix::fs::unlinkat(&self.folder, MADE, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => {
                report::log!(warn, path = %self.path.display(), %error, "cannot remove a socket's second name")
            }
        }
        if let Err(error) = fs::remove_dir(&self.path) {
            report::log!(warn, path = %self.path.display(), %error, "cannot remove the folder in which a socket was made");
        }
    }
}

/// An error unless nothing is at `path`, or the socket of a server that is gone.
fn refuse_live(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "what is there is not a socket",
            ));
        }
    }
    let probe = socket(AddressFamily::UNIX, SocketType::STREAM)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // A full backlog and another type of socket are signs of life too.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(Errno::ADDRINUSE.into()),
        Err(error) => Err(error.into()),
    }
}

/// The lock is held until the descriptor is closed.
fn lock_folder_of(path: &Path) -> io::Result<OwnedFd> {
    let folder = rustix::fs::open(
        path.parent().unwrap_or(Path::new("/")),
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let until = Instant::now() + LOCK;
    loop {
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another program keeps its folder locked",
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A socket's file, unlinked on drop if it still is this socket's.
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// That of a socket that has been bound there before.
    pub(super) fn found(path: &Path) -> io::Result<SocketFile> {
        use std::os::unix::fs::MetadataExt;

        let found = fs::symlink_metadata(path)?;
        if !found.file_type().is_socket() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(SocketFile {
            path: path.to_owned(),
            inode: (found.dev(), found.ino()),
        })
    }

    /// Whether something is at its path, if only another's.
    pub(super) fn is_in_place(&self) -> bool {
        !matches!(fs::symlink_metadata(&self.path), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    fn unlink(&self) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;

        // Where it can't be had, the inode has to do.
        let _lock = lock_folder_of(&self.path).ok();
        let found = fs::symlink_metadata(&self.path)?;
        if (found.dev(), found.ino()) == self.inode {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        match self.unlink() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                report::log!(warn, path = %self.path.display(), %error, "cannot remove a socket's file");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::net::UnixListener;
    use std::sync::Barrier;

    /// All of them find it stale. Who removes it then must not remove what another has put there.
    #[test]
    fn a_stale_socket_is_replaced_by_one() {
        const RIVALS: usize = 4;
        let name = format!("aioxide-{}-rivals", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        for round in 0..200 {
            let path = folder.join(format!("{round}"));
            drop(UnixListener::bind(&path).unwrap());
            let start = Barrier::new(RIVALS);
            let replaced = thread::scope(|scope| {
                let rivals: Vec<_> = (0..RIVALS)
                    .map(|_| {
                        scope.spawn(|| {
                            let fd = socket(AddressFamily::UNIX, SocketType::STREAM).unwrap();
                            let making = Making::beside(&path).unwrap();
                            making.make(&fd, 0o600).unwrap();
                            listen(&fd).unwrap();
                            start.wait();
                            let replaced = making.put_in_place(&path).is_ok();
                            // It listens until all have tried.
                            start.wait();
                            replaced
                        })
                    })
                    .collect();
                let replaced = rivals.into_iter().map(|rival| rival.join().unwrap());
                replaced.filter(|replaced| *replaced).count()
            });
            assert_eq!(replaced, 1, "round {round}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
