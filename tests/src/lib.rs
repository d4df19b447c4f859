//! What the integration tests have in common: real processes, watched with deadlines.

#[cfg(feature = "chromium")]
pub mod chromium;
pub mod cut;
pub mod dice;
pub mod door;
pub mod fixture;
pub mod http;
pub mod notify;
pub mod open;
#[cfg(feature = "stores")]
pub mod proxy;
pub mod replaced;
pub mod scopes;
#[cfg(feature = "stores")]
pub mod stores;
#[cfg(feature = "systemd")]
pub mod systemd;
pub mod timers;

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
pub use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// The environment variable with the address that a server under test listens on.
pub(crate) const ADDRESS: &str = "AIOXIDE_TEST_ADDRESS";

/// A local address for one server. Its ports stay closed once they are: those of an address that tests share would be
/// picked by another server that is started meanwhile.
fn address_of_its_own() -> Ipv4Addr {
    static SERVERS: AtomicUsize = AtomicUsize::new(0);
    let server = SERVERS.fetch_add(1, Ordering::Relaxed) % 254 + 1;
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // 127.0.0.0 is where everybody else listens.
    Ipv4Addr::new(127, high | 0x80, low, server as u8)
}

/// Longer than anything a test waits for, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A signal belongs to the one before for half a second, and nothing tells when that is over.
pub fn outlast_repeated_signals() {
    thread::sleep(Duration::from_millis(600));
}

/// Makes a test of each function, once with the argument `"thread"` and once with `"process"`.
#[macro_export]
macro_rules! under_both_isolations {
    ($($test:ident),* $(,)?) => {
        mod threads {
            $(#[test] fn $test() { super::$test("thread"); })*
        }
        mod processes {
            $(#[test] fn $test() { super::$test("process"); })*
        }
    };
}

/// Sets a flag when it is dropped: what runs until then ends also where a test fails.
#[derive(Debug)]
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A folder of a test's own, gone with it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    pub fn new() -> Folder {
        static FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("aioxide-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a folder can be made");
        Folder(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it.
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Default for Folder {
    fn default() -> Folder {
        Folder::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A connection to a server under test.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    stream
}

/// How many rounds a race is run: as many as `AIOXIDE_TEST_ROUNDS` says, or `usual`.
pub fn rounds(usual: u64) -> u64 {
    asked("AIOXIDE_TEST_ROUNDS", usual)
}

/// What whoever runs the tests asks for by this variable, or else what is usual.
pub fn asked<T: FromStr>(variable: &str, usual: T) -> T {
    match std::env::var(variable) {
        Ok(asked) => match asked.parse() {
            Ok(asked) => asked,
            Err(_) => panic!("{variable} is `{asked}`, which isn't a number"),
        },
        Err(_) => usual,
    }
}

/// The process id at the end of, or inside, a line of a fixture's log.
#[track_caller]
pub fn pid_in(line: &str) -> Pid {
    let number = line
        .split("pid=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    number
        .and_then(|number| number.parse().ok())
        .and_then(Pid::from_raw)
        .unwrap_or_else(|| panic!("no pid in `{line}`"))
}

/// The address after `on`, inside a line of a fixture's log.
#[track_caller]
pub fn address_in(line: &str) -> SocketAddr {
    let rest = line.split(" on ").nth(1);
    rest.and_then(|rest| rest.split(' ').next())
        .and_then(|address| address.parse().ok())
        .unwrap_or_else(|| panic!("no address in `{line}`"))
}

/// Whether it is there, and no zombie.
pub fn is_alive(pid: Pid) -> bool {
    parent_of(pid).is_some()
}

/// The parent of a process that has not ended. One that nobody has waited for yet has.
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, which stands before, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // That of a process in a namespace of its own may be unknown.
    (!matches!(state, "Z" | "X")).then_some(Pid::from_raw(parent).unwrap_or(Pid::INIT))
}

/// The server ended with success, and had no error to tell.
#[track_caller]
pub fn assert_graceful(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
}

/// Nobody listens there any more.
#[track_caller]
pub fn assert_closed(address: SocketAddr) {
    let connected = TcpStream::connect(address).map_err(|error| error.kind());
    assert_eq!(
        connected.err(),
        Some(ErrorKind::ConnectionRefused),
        "{address}, {}",
        holders(address)
    );
}

/// Who listens there, for the message of a test that fails.
fn holders(address: SocketAddr) -> String {
    let port = format!(":{:04X}", address.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let inodes: Vec<String> = sockets
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(1)?.ends_with(&port) && *fields.get(3)? == "0A";
            listens.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"?")))
        })
        .collect();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let holding = processes.filter_map(|process| {
        let files = std::fs::read_dir(process.path().join("fd")).ok()?;
        let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        let held: Vec<_> = links
            .filter(|link| {
                inodes
                    .iter()
                    .any(|inode| link.as_os_str() == inode.as_str())
            })
            .collect();
        let command = std::fs::read_to_string(process.path().join("cmdline")).ok()?;
        (!held.is_empty()).then(|| format!("{:?} {command:?} has {held:?}", process.file_name()))
    });
    format!(
        "sockets {inodes:?}: {}",
        holding.collect::<Vec<_>>().join("; ")
    )
}

/// What is caught here has its default action in the programs that are started, while an ignored SIGHUP
/// would be inherited: then every one of them would behave as under nohup because the tests do.
fn hear_hang_ups() {
    static HEARD: OnceLock<()> = OnceLock::new();
    HEARD.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime can be made");
        let _inside = runtime.enter();
        let hang_ups = signal(SignalKind::hangup()).expect("a handler can be installed");
        drop(hang_ups);
    });
}

/// A server under test. Its log is its stderr, which all of its processes inherit: the log's end is the
/// end of the last of them.
pub struct Running {
    child: Child,
    /// In the environment of all of its processes.
    address: Ipv4Addr,
    lines: Receiver<String>,
    log: Vec<String>,
    /// How many lines of the log `wait_for` has gone through.
    read: usize,
}

/// A process of a server under test.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// That of whoever it was started by, or was left to.
    pub parent: Pid,
}

/// How a server came to its end.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// From the question to the end.
    pub took: Duration,
    /// Every line that was logged.
    pub log: Vec<String>,
}

impl Running {
    /// Starts a program with a log level of `info` and nothing else of aioxide's in its environment.
    pub fn start(command: &mut Command) -> Running {
        Running::start_with(command, Stdio::null())
    }

    /// As [`start`](Running::start), with a standard input.
    pub fn start_with(command: &mut Command, stdin: impl Into<Stdio>) -> Running {
        Running::start_with_both(command, stdin, Stdio::null())
    }

    /// As [`start`](Running::start), with a standard input and a standard output.
    pub fn start_with_both(
        command: &mut Command,
        stdin: impl Into<Stdio>,
        stdout: impl Into<Stdio>,
    ) -> Running {
        hear_hang_ups();
        let address = address_of_its_own();
        let mut child = command
            .env_remove("AIOXIDE_WORKERS")
            .env(ADDRESS, address.to_string())
            .env("RUST_LOG", "info,aioxide=debug")
            .env("NO_COLOR", "1")
            .env_remove("RUST_BACKTRACE")
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n') {
                let Ok(line) = line else { return };
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
        Running {
            child,
            address,
            lines,
            log: Vec::new(),
            read: 0,
        }
    }

    /// The process's id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until a line that contains `text` is logged; each line serves one call.
    pub fn wait_for(&mut self, text: &str) -> String {
        let line = self.find(text, self.read, Instant::now() + PATIENCE);
        self.read = line + 1;
        self.log[line].clone()
    }

    /// As [`wait_for`](Running::wait_for), for a line of which it isn't known whether it comes before others:
    /// one that has served a call before is as good.
    pub fn wait_until_logged(&mut self, text: &str) -> String {
        self.wait_until_logged_by(text, Instant::now() + PATIENCE)
    }

    /// As [`wait_until_logged`](Running::wait_until_logged), with a deadline of its own.
    pub fn wait_until_logged_by(&mut self, text: &str, deadline: Instant) -> String {
        let line = self.find(text, 0, deadline);
        self.log[line].clone()
    }

    /// Where in the log the first line with `text` is, from this one on; it may have yet to come.
    fn find(&mut self, text: &str, mut line: usize, deadline: Instant) -> usize {
        loop {
            while let Some(logged) = self.log.get(line) {
                if logged.contains(text) {
                    return line;
                }
                line += 1;
            }
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.log.push(line),
                Err(error) => panic!("no `{text}` in the log ({error}):\n{}", self.log.join("\n")),
            }
        }
    }

    /// Waits for a line with one of these texts.
    pub fn wait_for_any(&mut self, texts: &[&str]) -> String {
        loop {
            let line = self.wait_for("");
            if texts.iter().any(|text| line.contains(text)) {
                return line;
            }
        }
    }

    /// Waits for a line with each of these texts, in whatever order.
    pub fn wait_for_all(&mut self, texts: &[&str]) {
        let mut missing = texts.to_vec();
        while !missing.is_empty() {
            let line = self.wait_for("");
            missing.retain(|text| !line.contains(text));
        }
    }

    /// Waits until the server says that it is ready, and tells where it listens.
    pub fn wait_until_ready(&mut self) -> SocketAddr {
        address_in(&self.wait_for("ready, listening on"))
    }

    /// Waits until the server has started a process, and gives that.
    pub fn wait_for_child(&self) -> Pid {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.children().first() {
                Some(pid) => return *pid,
                None => assert!(Instant::now() < deadline, "no worker is started"),
            }
            thread::yield_now();
        }
    }

    /// The processes that the server's main thread has started and that are there now.
    pub fn children(&self) -> Vec<Pid> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let text = std::fs::read_to_string(children).unwrap_or_default();
        text.split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect()
    }

    /// All processes of the server that have not ended, whoever has started them.
    pub fn processes(&self) -> Vec<Process> {
        let mark = format!("{ADDRESS}={}", self.address);
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let all = all.filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let mut variables = environment.split(|byte| *byte == 0);
            variables.find(|variable| *variable == mark.as_bytes())?;
            let parent = parent_of(pid)?;
            Some(Process { pid, parent })
        });
        all.collect()
    }

    /// Every line that has been logged until now.
    pub fn logged(&mut self) -> &[String] {
        self.log.extend(self.lines.try_iter());
        &self.log
    }

    /// Sends a signal to the server's first process.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the server can be signalled");
    }

    /// Whether the first process has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("the server can be waited for")
            .is_none()
    }

    /// Waits for the end of all of the server's processes.
    pub fn wait(mut self) -> Ended {
        let start = Instant::now();
        let deadline = start + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.log.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!(
                        "a process of the server is still alive:\n{}",
                        self.log.join("\n")
                    );
                }
            }
        }
        // The end of the log comes before the end of the process that held it last.
        let status = self.child.wait().expect("the server can be waited for");
        Ended {
            code: status.code(),
            signal: status.signal(),
            took: start.elapsed(),
            log: std::mem::take(&mut self.log),
        }
    }

    /// As [`wait`](Running::wait), after sending `signal`.
    pub fn stop(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.wait()
    }
}

impl Drop for Running {
    /// Leaves no process behind when a test fails.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The lines that contain `text`.
    pub fn lines<'e>(&'e self, text: &'e str) -> impl Iterator<Item = &'e str> {
        self.log
            .iter()
            .map(String::as_str)
            .filter(move |line| line.contains(text))
    }

    /// The lines at level `ERROR`, and those of panics.
    pub fn errors(&self) -> Vec<&str> {
        self.log
            .iter()
            .map(String::as_str)
            .filter(|line| {
                line.contains(" ERROR ")
                    || line.contains("panicked at")
                    || line.starts_with("aioxide: ")
            })
            .collect()
    }
}

/// The compiler is of this version, `1.95` for example: what it says can be compared literally.
pub fn is_toolchain(version: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("--version")
        .output()
        .unwrap_or_else(|error| panic!("cannot ask rustc for its version: {error}"));
    String::from_utf8_lossy(&output.stdout).starts_with(&format!("rustc {version}."))
}
