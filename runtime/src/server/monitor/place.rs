//! Where the door is, and what is done with the files of doors that nobody stands behind any more.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::server::supervisor::Entrance;

/// The environment variable that says where the door is, or by nothing that there is none.
const VARIABLE: &str = "AIOXIDE_MONITOR";

/// Whether [`Server::monitor`](crate::Server::monitor) opens a door, and where: made of a `bool`, of a path, or of an
/// `Option` of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Door(Where);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Where {
    #[default]
    Nowhere,
    /// In the folder that is meant for such.
    Usual,
    At(PathBuf),
}

impl From<bool> for Door {
    fn from(open: bool) -> Door {
        Door(if open { Where::Usual } else { Where::Nowhere })
    }
}

macro_rules! from_paths {
    ($($path:ty),*) => {$(
        impl From<$path> for Door {
            fn from(path: $path) -> Door {
                Door(Where::At(path.into()))
            }
        }

        impl From<Option<$path>> for Door {
            fn from(path: Option<$path>) -> Door {
                path.map_or_else(Door::default, Door::from)
            }
        }
    )*};
}

from_paths!(&str, String, &Path, PathBuf);

/// The door as it stands open. Dropped, it is closed.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    inode: u64,
    /// Its file is this process's to remove.
    pub(super) own: bool,
}

impl Door {
    /// What is said in the environment comes first.
    pub(super) fn or_in_environment(&self) -> Door {
        match env::var_os(VARIABLE) {
            Some(path) if path.is_empty() => Door::default(),
            Some(path) => Door(Where::At(path.into())),
            None => self.clone(),
        }
    }

    /// Takes the door that the predecessor of this supervisor had, if that is where this one is to be.
    pub(super) fn take(&self, handed: &mut Option<Entrance>) -> io::Result<Option<Open>> {
        let is_meant = |at: &Path| match &self.0 {
            Where::Nowhere => false,
            Where::Usual => true,
            Where::At(path) => path == at,
        };
        let Some(Entrance { socket, at, inode }) = handed.take_if(|door| is_meant(&door.at)) else {
            return Ok(None);
        };
        let listener = UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(Some(Open {
            listener,
            path: at,
            inode: inode.unwrap_or_default(),
            own: false,
        }))
    }

    /// `None` where there is to be none.
    pub(super) fn open(&self) -> io::Result<Option<Open>> {
        match &self.0 {
            Where::Nowhere => Ok(None),
            Where::At(path) => open(path).map(Some),
            Where::Usual => {
                let folder = folder()?;
                remove_stale(&folder);
                let executable = env::current_exe().unwrap_or_default();
                let executable = executable.file_name().unwrap_or_default();
                let name = format!(
                    "aioxide-{}-{}",
                    executable.to_string_lossy(),
                    std::process::id()
                );
                // Further servers of this process.
                let names = (2..).map(|nth| format!("{name}-{nth}.sock"));
                let mut names = std::iter::once(format!("{name}.sock")).chain(names);
                loop {
                    let path = folder.join(names.next().unwrap_or_default());
                    match open(&path) {
                        Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                        opened => return opened.map(Some),
                    }
                }
            }
        }
    }
}

/// Where the doors of a user's servers are, if nobody says otherwise.
fn folder() -> io::Result<PathBuf> {
    let given = |name| env::var_os(name).filter(|folder: &std::ffi::OsString| !folder.is_empty());
    if let Some(folders) = given("RUNTIME_DIRECTORY") {
        if let Some(first) = env::split_paths(&folders).next() {
            return Ok(first);
        }
    }
    if let Some(folder) = given("XDG_RUNTIME_DIR") {
        return Ok(folder.into());
    }
    let uid = rustix::process::geteuid().as_raw();
    let folder = PathBuf::from(format!("/tmp/aioxide-{uid}"));
    own_folder(&folder, uid)?;
    Ok(folder)
}

/// Makes it, if it isn't there. It must be the user's own: whoever else owns it could put another socket there.
fn own_folder(folder: &Path, uid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            ErrorKind::PermissionDenied,
            format!(
                "{} is not a folder that belongs to this user alone",
                folder.display()
            ),
        ));
    }
    Ok(())
}

/// Removes what servers left that were killed.
fn remove_stale(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if is_door(&entry.file_name()) && is_stale(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_door(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("aioxide-") && name.ends_with(".sock")
}

/// Whether it is a socket that nobody listens on.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refuses = || {
        UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    is_socket && refuses() && !is_bound(path)
}

/// Whether the kernel knows it as a socket's: one that has just been bound is listened on at any moment.
fn is_bound(path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    let table = fs::read("/proc/net/unix").unwrap_or_default();
    let mut lines = table.split(|byte| *byte == b'\n');
    lines.any(|line| {
        line.strip_suffix(path)
            .is_some_and(|fields| fields.ends_with(b" "))
    })
}

/// Whoever connects before it has its permissions is sent away as later: who may enter is asked of the kernel. It is bound
/// by its own name, by which the kernel's table of sockets lists it.
fn open(path: &Path) -> io::Result<Open> {
    if is_stale(path) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let inode = fs::symlink_metadata(path)?.ino();
    let door = Open {
        listener,
        path: path.to_owned(),
        inode,
        own: true,
    };
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    door.listener.set_nonblocking(true)?;
    Ok(door)
}

impl Open {
    /// For a successor of the supervisor.
    pub(super) fn entrance(&self) -> io::Result<Entrance> {
        Ok(Entrance {
            socket: self.listener.try_clone()?.into(),
            at: self.path.clone(),
            inode: Some(self.inode),
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let is_own = self.own
            && fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if is_own {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

    fn folder_of_its_own(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("aioxide-door-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn a_door_is_made_of_what_says_where_it_is() {
        assert_eq!(Door::from(false), Door::default());
        assert_eq!(Door::from(true).0, Where::Usual);
        assert_eq!(Door::from("/run/a").0, Where::At("/run/a".into()));
        assert_eq!(Door::from(None::<String>), Door::default());
    }

    #[test]
    fn a_door_is_the_users_own_and_gone_when_closed() {
        let folder = folder_of_its_own("own");
        let path = folder.join("door.sock");
        let door = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        let second = open(&path).unwrap_err();
        assert_eq!(second.kind(), ErrorKind::AddrInUse);
        drop(door);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn stale_doors_are_removed_and_nothing_else_is() {
        let folder = folder_of_its_own("stale");
        let files = ["aioxide-a-1.sock", "aioxide-b-2.sock", "other.sock"];
        let [stale, live, other] = files.map(|name| folder.join(name));
        for path in [&stale, &other] {
            drop(UnixListener::bind(path).unwrap());
        }
        fs::write(folder.join("aioxide-c-3.sock"), "").unwrap();
        let _listens = UnixListener::bind(&live).unwrap();
        let begun = folder.join("aioxide-d-4.sock");
        let bound = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&bound, &SocketAddrUnix::new(&begun).unwrap()).unwrap();
        remove_stale(&folder);
        assert!(!stale.exists() && live.exists() && begun.exists() && other.exists());
        assert!(folder.join("aioxide-c-3.sock").exists());
        // One of a path that was given is taken over.
        drop(open(&other).unwrap());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let uid = rustix::process::geteuid().as_raw();
        let folder = env::temp_dir().join(format!("aioxide-folder-{}", std::process::id()));
        own_folder(&folder, uid).unwrap();
        own_folder(&folder, uid).unwrap();
        assert!(own_folder(&folder, uid + 1).is_err());
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        assert!(own_folder(&folder, uid).is_err());
        fs::remove_dir(&folder).unwrap();
    }
}
