//! Opens Unix sockets, and removes their files.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use super::calls::{listen, socket};
use crate::server::report;

/// Binds under a temporary name in the same folder and moves that into place, so that whoever finds the
/// path finds it listening and with its mode.
pub(super) fn open(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
    refuse_live(path)?;
    let fd = socket(AddressFamily::UNIX, SocketType::STREAM)?;
    let mut file = bind_temporary(&fd, path)?;
    fs::set_permissions(&file.path, fs::Permissions::from_mode(mode))?;
    listen(&fd)?;
    fs::rename(&file.path, path)?;
    path.clone_into(&mut file.path);
    Ok((fd, file))
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

fn bind_temporary(fd: &OwnedFd, path: &Path) -> io::Result<SocketFile> {
    let mut attempt = 0;
    loop {
        let name = format!(".{}-{attempt}", std::process::id());
        let temporary = path.with_file_name(&name);
        let bound = match SocketAddrUnix::new(&temporary) {
            Err(Errno::NAMETOOLONG) => bind_in_folder(fd, path, &name),
            address => address.and_then(|address| rustix::net::bind(fd, &address)),
        };
        match bound {
            Ok(()) => {
                let found = fs::symlink_metadata(&temporary)?;
                return Ok(SocketFile {
                    path: temporary,
                    inode: (found.dev(), found.ino()),
                });
            }
            // Left behind by a process of the same id.
            Err(Errno::ADDRINUSE) if attempt < 100 => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A path that is itself short enough for an address leaves too little room for a longer name beside it.
fn bind_in_folder(fd: &OwnedFd, path: &Path, name: &str) -> Result<(), Errno> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;

    let folder = path.parent().unwrap_or(Path::new("/"));
    let folder = rustix::fs::open(
        folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let short = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
    rustix::net::bind(fd, &SocketAddrUnix::new(short)?)
}

/// A socket's file, unlinked on drop if it still is this socket's.
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let unlink = || -> io::Result<()> {
            let found = fs::symlink_metadata(&self.path)?;
            if (found.dev(), found.ino()) == self.inode {
                fs::remove_file(&self.path)?;
            }
            Ok(())
        };
        match unlink() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                report::log!(warn, path = %self.path.display(), %error, "cannot remove a socket's file");
            }
            _ => {}
        }
    }
}
