//! Process workers: the executable that they are started from, their start, and how a started process
//! finds out that it is one.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::server::report;

/// `<supervisor pid>:<inode of the worker's end of the control socket>:<ordinal of the run call>`
const ROLE: &str = "AIOXIDE_WORKER";

/// How this process was started, and so how its workers are.
pub(in crate::server) struct Origin {
    arg0: OsString,
    args: Vec<OsString>,
    /// Where the executable was found, and where a newer one will be.
    path: PathBuf,
}

/// An executable, held: it stays the same when another takes its path.
#[derive(Clone)]
pub(in crate::server) struct Image(Arc<Held>);

struct Held {
    /// None without /proc, where only the path can be started.
    file: Option<OwnedFd>,
    path: PathBuf,
}

impl Origin {
    /// To be called before the program changes its directory.
    pub(in crate::server) fn at_start() -> io::Result<Origin> {
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
        let directory = env::current_dir().unwrap_or_default();
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
        })
    }

    /// What this process runs.
    pub(in crate::server) fn current(&self) -> io::Result<Image> {
        self.open(Path::new("/proc/self/exe"))
    }

    /// What is on disk now.
    pub(in crate::server) fn newest(&self) -> io::Result<Image> {
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

    /// Starts a worker of the `run`-th server of this process: the process, and the supervisor's end of
    /// its control socket. Must be called in a runtime.
    pub(in crate::server) fn spawn(
        &self,
        image: &Image,
        run: usize,
    ) -> io::Result<(Process, UnixStream)> {
        self.try_spawn(image, run)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {image}: {error}")))
    }

    fn try_spawn(&self, image: &Image, run: usize) -> io::Result<(Process, UnixStream)> {
        // Before the child exists, so that no death is missed, and none lost to an inherited SIG_IGN.
        let deaths = signal(SignalKind::child())?;
        let (ours, theirs) = UnixStream::pair()?;
        let inode = rustix::fs::fstat(&theirs)?.st_ino;
        let child = Command::new(image.program())
            .arg0(&self.arg0)
            .args(&self.args)
            .env(ROLE, format!("{}:{inode}:{run}", std::process::id()))
            .stdin(OwnedFd::from(theirs))
            .process_group(0)
            .spawn()?;
        Ok((Process::new(child, deaths)?, ours))
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

/// A started worker process. Its owner waits for its end: dropped, it would stay a zombie.
pub(in crate::server) struct Process {
    child: Child,
    killer: Killer,
    deaths: SignalStream,
}

/// Kills a worker process, from any thread; never another one of the same pid.
#[derive(Clone)]
pub(in crate::server) struct Killer(Arc<OwnedFd>);

impl Killer {
    /// To a process that has ended, nothing happens.
    pub(in crate::server) fn kill(&self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Process {
    fn new(mut child: Child, deaths: SignalStream) -> io::Result<Process> {
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

    pub(in crate::server) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends one that can't be talked to.
    pub(in crate::server) fn give_up(mut self) -> io::Result<()> {
        give_up(&mut self.child)
    }

    pub(in crate::server) fn killer(&self) -> &Killer {
        &self.killer
    }

    /// How the process ended, once it has. Loses nothing when dropped.
    pub(in crate::server) async fn ended(&mut self) -> io::Result<ExitStatus> {
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

/// What this process has been started as.
#[derive(Debug)]
pub(in crate::server) enum Started {
    ByUser,
    /// By a supervisor, as a worker of the `run`-th server that the program runs.
    AsWorker {
        socket: OwnedFd,
        run: usize,
    },
}

/// Finds out, and if this is a worker, takes the control socket off stdin, so that no grandchild gets it.
///
/// To be called once: after that, stdin tells nothing.
pub(in crate::server) fn started() -> io::Result<Started> {
    let Some(role) = env::var_os(ROLE) else {
        return Ok(Started::ByUser);
    };
    let stdin = io::stdin();
    let socket = rustix::fs::fstat(&stdin)
        .ok()
        .filter(|found| FileType::from_raw_mode(found.st_mode) == FileType::Socket)
        .map(|found| found.st_ino);
    let Some(run) = decide(&role.to_string_lossy(), socket, parent_id())? else {
        return Ok(Started::ByUser);
    };

    let socket = rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?;
    rustix::stdio::dup2_stdin(fs::File::open("/dev/null")?)?;
    if let Err(error) = name_process() {
        report::log!(debug, %error, "the worker's process keeps the name the kernel gave it");
    }
    Ok(Started::AsWorker { socket, run })
}

/// Which run call this process is to be a worker of, if any.
fn decide(role: &str, socket: Option<u64>, parent: u32) -> io::Result<Option<usize>> {
    let mut parts = role.split(':').map(str::parse::<u64>);
    let (Some(Ok(supervisor)), Some(Ok(inode)), Some(Ok(run)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        let text = format!(
            "{ROLE}={role} in the environment: only aioxide sets it, as `<pid>:<inode>:<number>`; did you mean \
             {ROLE}S?"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    if socket == Some(inode) {
        return Ok(Some(run as usize));
    }
    if supervisor == u64::from(parent) {
        let text = "this process was started as a worker, but stdin is no longer the control socket: what runs \
                    before the server must leave stdin alone";
        return Err(io::Error::other(text));
    }
    // Inherited from a worker that has started this process for something else.
    Ok(None)
}

/// Started as `/proc/self/fd/7`, a process is called `7`.
fn name_process() -> io::Result<()> {
    let arg0 = env::args_os().next().unwrap_or_default();
    let name = Path::new(&arg0).file_name().unwrap_or(&arg0);
    fs::write("/proc/self/comm", name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{Read, Write};
    use std::os::unix::process::ExitStatusExt;

    use crate::server::line::wire::{SupervisorEnd, ToSupervisor, WorkerEnd};

    fn shell(script: &str) -> Origin {
        Origin {
            arg0: "my-server".into(),
            args: vec!["-c".into(), script.into()],
            path: "/bin/sh".into(),
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
        let (mut process, socket) = origin.spawn(&origin.newest().unwrap(), 3).unwrap();
        let pid = process.pid();
        let text = read_all(socket);
        assert_eq!(process.ended().await.unwrap().code(), Some(7));
        process.killer().kill().unwrap();

        let words: Vec<&str> = text.split_whitespace().collect();
        let [role, arg0, own_pid, inode, ..] = words[..] else {
            panic!("{text}")
        };
        assert_eq!(role, format!("{}:{inode}:3", std::process::id()));
        assert_eq!(arg0, "my-server");
        assert_eq!(own_pid, pid.to_string());
    }

    #[tokio::test]
    async fn a_killed_worker_is_noticed_by_status_and_by_its_socket() {
        let origin = shell("echo ready >&0; read never <&0");
        let (mut process, mut socket) = origin.spawn(&origin.newest().unwrap(), 0).unwrap();
        socket.read_exact(&mut [0; 6]).unwrap();
        process.killer().kill().unwrap();
        assert_eq!(process.ended().await.unwrap().signal(), Some(9));
        assert_eq!(read_all(socket), "");
    }

    #[tokio::test]
    async fn a_worker_leads_a_process_group_and_inherits_nothing_of_the_supervisors() {
        let origin = shell("cut -d' ' -f5 /proc/$$/stat >&0; ls -l /proc/$$/fd >&0");
        let image = origin.newest().unwrap();
        let (mut process, socket) = origin.spawn(&image, 0).unwrap();
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
            let (mut process, _socket) = origin.spawn(image, 0).unwrap();
            assert_eq!(process.ended().await.unwrap().code(), Some(code));
        }

        put("/etc/passwd");
        let error = origin.spawn(&origin.newest().unwrap(), 0).err().unwrap();
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

    /// The other half of the next test: does nothing unless that has started it.
    #[test]
    fn as_a_worker() {
        let Started::AsWorker { socket, run } = started().unwrap() else {
            return;
        };
        assert_eq!(run, 5);
        let stdin = fs::read_link("/proc/self/fd/0").unwrap();
        assert_eq!(stdin, Path::new("/dev/null"));
        let flags = rustix::io::fcntl_getfd(&socket).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let end = WorkerEnd::new(socket).unwrap();
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
                "server::supervisor::image::tests::as_a_grandchild",
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
            "server::supervisor::image::tests::as_a_worker".into(),
        ];
        let (mut process, socket) = origin.spawn(&origin.current().unwrap(), 5).unwrap();
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
    fn a_role_is_taken_refused_or_stale() {
        assert_eq!(decide("10:77:2", Some(77), 10).unwrap(), Some(2));
        assert_eq!(
            decide("10:77:2", Some(77), 1).unwrap(),
            Some(2),
            "the supervisor may be gone already"
        );
        assert_eq!(decide("10:77:2", Some(78), 11).unwrap(), None);
        assert_eq!(decide("10:77:2", None, 11).unwrap(), None);
        let error = decide("10:77:2", None, 10).unwrap_err();
        assert!(
            error.to_string().contains("no longer the control socket"),
            "{error}"
        );
        for typed in ["4", "", "1:2", "1:2:3:4", "a:b:c"] {
            let error = decide(typed, Some(77), 10).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("AIOXIDE_WORKER={typed} in")),
                "{error}"
            );
        }
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
