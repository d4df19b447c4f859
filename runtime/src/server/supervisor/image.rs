//! The executable that process workers are started from, and their start.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use tokio::signal::unix::{SignalKind, signal};

use super::seats::child::Process;
use super::systemd::{OF_THE_PROCESS, OF_THE_SUPERVISOR};
use crate::server::line::role_variable::{ROLE, Role, SUCCESSOR};

/// How this process was started, and so how its workers are.
#[derive(Clone)]
pub(crate) struct Origin {
    arg0: OsString,
    args: Vec<OsString>,
    /// Where the executable was found, and where a newer one will be.
    path: PathBuf,
    /// The working directory, by the name that whoever started this process has for it.
    directory: PathBuf,
}

/// An executable, held: it stays the same when another takes its path.
#[derive(Clone)]
pub(crate) struct Image(Arc<Held>);

struct Held {
    /// None without /proc, where only the path can be started.
    file: Option<OwnedFd>,
    path: PathBuf,
}

impl Origin {
    /// To be called before the program changes its directory.
    pub(crate) fn at_start() -> io::Result<Origin> {
        let mut args = env::args_os();
        let arg0 = args.next().unwrap_or_default();
        let running = fs::metadata("/proc/self/exe").ok();
        let same = |path: &Path| match (fs::metadata(path), &running) {
            (Ok(found), Some(running)) => {
                (found.dev(), found.ino()) == (running.dev(), running.ino())
            }
            (Ok(found), None) => found.is_file(),
            (Err(_), _) => false,
        };
        let directory = working_directory(env::var_os("PWD"));
        let path = match locate(&arg0, &directory, env::var_os("PATH").as_deref(), same) {
            Some(path) => path,
            None => undeleted(env::current_exe().map_err(|error| {
                let text = format!(
                    "cannot find the executable of {}: {error}",
                    Path::new(&arg0).display()
                );
                io::Error::new(error.kind(), text)
            })?),
        };
        Ok(Origin {
            arg0,
            args: args.collect(),
            path,
            directory,
        })
    }

    /// What this process runs.
    pub(crate) fn current(&self) -> io::Result<Image> {
        self.open(Path::new("/proc/self/exe"))
    }

    /// What is on disk now.
    pub(crate) fn newest(&self) -> io::Result<Image> {
        self.open(&self.path)
    }

    fn open(&self, at: &Path) -> io::Result<Image> {
        let path = self.path.clone();
        if !Path::new("/proc/self/fd").exists() {
            return Ok(Image(Arc::new(Held { file: None, path })));
        }
        // A number below 3 would be the child's standard stream by the time it is executed.
        let file = rustix::fs::open(at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::io::fcntl_dupfd_cloexec(&file, 3));
        match file {
            Ok(file) => Ok(Image(Arc::new(Held {
                file: Some(file),
                path,
            }))),
            Err(error) => {
                let error = io::Error::from(error);
                Err(io::Error::new(
                    error.kind(),
                    format!("cannot open {}: {error}", path.display()),
                ))
            }
        }
    }

    /// Starts a worker: the process, and the supervisor's end of its control socket. Must be called in a runtime.
    pub(crate) fn spawn(&self, image: &Image, role: &Role) -> io::Result<(Process, UnixStream)> {
        self.try_spawn(image, role)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {image}: {error}")))
    }

    fn try_spawn(&self, image: &Image, role: &Role) -> io::Result<(Process, UnixStream)> {
        let (mut command, ours, inode) = self.command(image)?;
        command
            .env(ROLE, role.write(std::process::id(), inode))
            .process_group(0);
        for variable in OF_THE_SUPERVISOR {
            command.env_remove(variable);
        }
        Ok((Process::new(command.spawn()?)?, ours))
    }

    /// Starts what is to replace this supervisor: the process, and this side's end of the socket between them. It stays in
    /// this one's process group, and is to tell the service manager how it is. Must be called in a runtime.
    pub(crate) fn spawn_successor(&self, image: &Image) -> io::Result<(Process, UnixStream)> {
        let spawn = || {
            let (mut command, ours, inode) = self.command(image)?;
            command.env(SUCCESSOR, format!("{}:{inode}", std::process::id()));
            Ok((Process::new(command.spawn()?)?, ours))
        };
        let spawned: io::Result<_> = spawn();
        spawned
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {image}: {error}")))
    }

    /// What starts the image with one end of a socket pair as stdin; the other end, and the inode of theirs.
    fn command(&self, image: &Image) -> io::Result<(Command, UnixStream, u64)> {
        // Where SIGCHLD is ignored, as one may inherit it, the status of a child that has ended is lost.
        drop(signal(SignalKind::child())?);
        let (ours, theirs) = UnixStream::pair()?;
        let inode = rustix::fs::fstat(&theirs)?.st_ino;
        let mut command = Command::new(image.program());
        command
            .arg0(&self.arg0)
            .args(&self.args)
            .stdin(OwnedFd::from(theirs));
        for variable in OF_THE_PROCESS.iter().chain(&[ROLE, SUCCESSOR]) {
            command.env_remove(variable);
        }
        // By its name: what that stands for now may be another release than the one this process runs in.
        if self.directory.is_dir() {
            command.current_dir(&self.directory);
        }
        Ok((command, ours, inode))
    }
}

impl Image {
    fn program(&self) -> PathBuf {
        match &self.0.file {
            Some(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            None => self.0.path.clone(),
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.path.display().fmt(f)
    }
}

/// The shell's name for the working directory, which may lead through a link that moves, if it is one.
fn working_directory(named: Option<OsString>) -> PathBuf {
    let named = named
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && is_same_file(path, Path::new(".")));
    named
        .or_else(|| env::current_dir().ok())
        .unwrap_or_default()
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// The path that `arg0` stood for, among those that are the `same` file as the running one.
fn locate(
    arg0: &OsStr,
    directory: &Path,
    search: Option<&OsStr>,
    same: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    if arg0.is_empty() {
        return None;
    }
    let mut candidates: Vec<PathBuf> = Vec::new();
    if arg0.as_bytes().contains(&b'/') {
        candidates.push(directory.join(arg0));
    } else if let Some(search) = search {
        candidates.extend(env::split_paths(search).map(|entry| directory.join(entry).join(arg0)));
    }
    candidates.into_iter().find(|path| same(path))
}

/// The path without what the kernel adds to the path of a running file that has been unlinked or replaced.
fn undeleted(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(stem) if !path.exists() => OsString::from_vec(stem.to_vec()).into(),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{Read, Write};
    use std::os::unix::process::ExitStatusExt;

    use crate::server::line::role_variable::RunId;
    use crate::server::line::wire::{SupervisorEnd, ToSupervisor};

    fn shell(script: &str) -> Origin {
        Origin {
            arg0: "my-server".into(),
            args: vec!["-c".into(), script.into()],
            path: "/bin/sh".into(),
            directory: PathBuf::new(),
        }
    }

    fn role(number: usize) -> Role {
        let name = "a".to_owned();
        Role {
            run: RunId { name, number },
            past: Vec::new(),
        }
    }

    fn read_all(mut socket: UnixStream) -> String {
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    }

    #[tokio::test]
    async fn a_worker_gets_its_role_its_name_and_the_control_socket() {
        let origin =
            shell(r#"echo "$AIOXIDE_WORKER $0 $$" >&0; ls -iL /proc/self/fd/0 >&0; exit 7"#);
        let (mut process, socket) = origin.spawn(&origin.newest().unwrap(), &role(3)).unwrap();
        let pid = process.pid();
        let text = read_all(socket);
        assert_eq!(process.ended().await.unwrap().code(), Some(7));
        process.killer().kill().unwrap();

        let words: Vec<&str> = text.split_whitespace().collect();
        let [role, arg0, own_pid, inode, ..] = words[..] else {
            panic!("{text}")
        };
        assert_eq!(role, format!("{}:{inode}:3:a", std::process::id()));
        assert_eq!(arg0, "my-server");
        assert_eq!(own_pid, pid.to_string());
    }

    #[tokio::test]
    async fn a_killed_worker_is_noticed_by_status_and_by_its_socket() {
        let origin = shell("echo ready >&0; read never <&0");
        let (mut process, mut socket) = origin.spawn(&origin.newest().unwrap(), &role(0)).unwrap();
        socket.read_exact(&mut [0; 6]).unwrap();
        process.killer().kill().unwrap();
        assert_eq!(process.ended().await.unwrap().signal(), Some(9));
        assert_eq!(read_all(socket), "");
    }

    #[tokio::test]
    async fn a_worker_leads_a_process_group_and_inherits_nothing_of_the_supervisors() {
        let origin = shell("cut -d' ' -f5 /proc/$$/stat >&0; ls -l /proc/$$/fd >&0");
        let image = origin.newest().unwrap();
        let (mut process, socket) = origin.spawn(&image, &role(0)).unwrap();
        let own_end = rustix::fs::fstat(&socket).unwrap().st_ino;
        let text = read_all(socket);
        process.ended().await.unwrap();
        let (group, descriptors) = text.split_once('\n').unwrap();
        assert_eq!(group, process.pid().to_string());
        let executable = fs::read_link(image.program()).unwrap();
        assert!(descriptors.contains("socket:["), "{text}");
        assert!(
            !descriptors.contains(&format!("socket:[{own_end}]")),
            "{text}"
        );
        assert!(
            !descriptors.contains(executable.to_str().unwrap()),
            "{text}"
        );
    }

    #[tokio::test]
    async fn an_image_stays_when_its_path_changes_and_the_newest_is_what_is_there() {
        let folder = env::temp_dir().join(format!("aioxide-{}-image", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("server");
        let origin = Origin {
            path: path.clone(),
            ..shell("exit 7")
        };
        // Links, because what was just written may be busy for as long as another test starts a process.
        let put = |program: &str| {
            let _ = fs::remove_file(&path);
            std::os::unix::fs::symlink(program, &path).unwrap();
        };
        put("/bin/sh");
        let old = origin.newest().unwrap();
        assert_eq!(old.to_string(), path.display().to_string());
        put("/bin/true");
        let new = origin.newest().unwrap();
        for (image, code) in [(&old, 7), (&new, 0), (&old, 7)] {
            let (mut process, _socket) = origin.spawn(image, &role(0)).unwrap();
            assert_eq!(process.ended().await.unwrap().code(), Some(code));
        }

        put("/etc/passwd");
        let error = origin
            .spawn(&origin.newest().unwrap(), &role(0))
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot start {}: ", path.display())),
            "{error}"
        );
        put("/no/such/program");
        let error = origin.newest().err().unwrap();
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot open {}: No such file", path.display()))
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn the_program_itself_started_again_takes_its_role() {
        let mut origin = Origin::at_start().unwrap();
        assert_eq!(
            fs::canonicalize(&origin.path).unwrap(),
            env::current_exe().unwrap()
        );
        origin.args = vec![
            "-q".into(),
            "--exact".into(),
            "server::worker::started::tests::as_a_worker".into(),
        ];
        let (mut process, socket) = origin.spawn(&origin.current().unwrap(), &role(5)).unwrap();
        let mut end = SupervisorEnd::new(socket).unwrap();
        let hello = ToSupervisor::Hello { pid: process.pid() };
        assert_eq!(end.next().await.unwrap(), Some(hello));
        let Some(ToSupervisor::Reported(name)) = end.next().await.unwrap() else {
            panic!()
        };
        assert!(name.starts_with("aioxide-"), "{name}");
        assert_eq!(end.next().await.unwrap(), Some(ToSupervisor::Ready));
        assert_eq!(end.next().await.unwrap(), None);
        assert!(process.ended().await.unwrap().success());
    }

    #[test]
    fn an_executable_is_found_as_the_shell_found_it() {
        let find = |arg0: &str, running: &str| {
            let search = Some(OsStr::new("/usr/bin:tools:"));
            locate(OsStr::new(arg0), Path::new("/home/me"), search, |path| {
                path == Path::new(running)
            })
        };
        assert_eq!(
            find("./server", "/home/me/./server"),
            Some("/home/me/./server".into())
        );
        assert_eq!(
            find("/opt/server", "/opt/server"),
            Some("/opt/server".into())
        );
        assert_eq!(
            find("server", "/usr/bin/server"),
            Some("/usr/bin/server".into())
        );
        assert_eq!(
            find("server", "/home/me/tools/server"),
            Some("/home/me/tools/server".into())
        );
        assert_eq!(
            find("server", "/home/me/server"),
            Some("/home/me/server".into())
        );
        assert_eq!(find("./server", "/elsewhere/server"), None);
        assert_eq!(find("", "/home/me"), None);
    }

    #[test]
    fn the_working_directory_has_its_name_from_outside_if_that_is_true() {
        let here = env::current_dir().unwrap();
        let link = env::temp_dir().join(format!("aioxide-{}-pwd", std::process::id()));
        std::os::unix::fs::symlink(&here, &link).unwrap();
        let named = |name: &Path| working_directory(Some(name.into()));
        assert_eq!(named(&link), link);
        assert_eq!(named(Path::new(".")), here);
        assert_eq!(named(&env::temp_dir()), here);
        assert_eq!(working_directory(None), here);
        fs::remove_file(&link).unwrap();
        assert_eq!(named(&link), here);
    }

    #[test]
    fn the_kernels_mark_of_a_replaced_file_is_no_part_of_its_path() {
        let gone = PathBuf::from("/no/such/server (deleted)");
        assert_eq!(undeleted(gone), Path::new("/no/such/server"));
        assert_eq!(
            undeleted("/no/such/server".into()),
            Path::new("/no/such/server")
        );
        let real = env::temp_dir().join(format!("aioxide-{} (deleted)", std::process::id()));
        fs::File::create(&real).unwrap().write_all(b"x").unwrap();
        assert_eq!(undeleted(real.clone()), real);
        fs::remove_file(real).unwrap();
    }
}
