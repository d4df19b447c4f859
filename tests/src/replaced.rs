//! A server whose supervisor is replaced, and clients that notice what that costs them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Ended, Folder, PATIENCE, Running, connect, is_alive, pid_in};

/// A server that is started by a link, so that what is on disk can be changed.
pub struct Linked {
    /// With the link, and whatever else a test puts there.
    pub folder: Folder,
    /// The supervisors, the last one first.
    pub pids: Vec<Pid>,
    server: Option<Running>,
}

impl Linked {
    /// Starts a program; `FOLDER` in its arguments stands for the test's folder.
    pub fn start(program: &str, args: &str, variables: &[(&str, &str)]) -> Linked {
        let folder = Folder::new();
        let link = folder.file("server");
        put(&link, program);
        let args = args.replace("FOLDER", folder.path().to_str().expect("a plain path"));
        let mut command = Command::new(link);
        command
            .args(args.split_whitespace())
            .envs(variables.iter().copied());
        let server = Running::start(&mut command);
        Linked {
            folder,
            pids: vec![server.pid()],
            server: Some(server),
        }
    }

    /// The log of all of the supervisors, and what is known of their processes.
    pub fn log(&mut self) -> &mut Running {
        self.server.as_mut().expect("it hasn't been waited for")
    }

    /// Puts another program where the next supervisor will be found.
    pub fn install(&self, program: &str) {
        put(&self.folder.file("server"), program);
    }

    /// Sends a signal to the newest supervisor.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pids[0], signal).expect("the supervisor can be signalled");
    }

    /// Asks for an upgrade, and waits until a new supervisor is started.
    pub fn begin(&mut self) -> Pid {
        self.signal(Signal::USR2);
        self.begun()
    }

    /// Waits until a new supervisor is started.
    pub fn begun(&mut self) -> Pid {
        let line = self
            .log()
            .wait_for("upgrading: the new supervisor is process");
        let pid = pid_in(&line);
        self.pids.insert(0, pid);
        pid
    }

    /// Replaces the supervisor, and waits until the new one serves.
    pub fn upgrade(&mut self) {
        self.begin();
        self.log().wait_for("upgraded: this supervisor serves");
    }

    /// The new one did not make it.
    pub fn forget_newest(&mut self) {
        self.pids.remove(0);
    }

    /// Waits for the end of all of the server's processes.
    pub fn wait(mut self) -> Ended {
        self.server.take().expect("it is waited for once").wait()
    }

    /// As [`wait`](Linked::wait), after SIGTERM to the newest supervisor.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Linked {
    /// Leaves nothing behind when a test fails, and shows the log.
    #[expect(clippy::print_stderr, reason = "for who looks for what went wrong")]
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            if thread::panicking() {
                eprintln!("{}", server.logged().join("\n"));
            }
            for process in server.processes() {
                let _ = kill_process(process.pid, Signal::KILL);
            }
        }
    }
}

/// At once, so that there always is one.
fn put(link: &Path, program: &str) {
    let new = link.with_extension("new");
    symlink(program, &new).expect("a link can be made");
    std::fs::rename(&new, link).expect("a link can be moved");
}

/// Waits for the end of a process.
#[track_caller]
pub fn wait_until_gone(pid: Pid) {
    let deadline = Instant::now() + PATIENCE;
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "{pid} is still there");
        thread::sleep(Duration::from_millis(10));
    }
}

/// One request to `traffic`: a byte that comes back.
pub fn short(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"e")?;
    let mut reply = [0];
    stream.read_exact(&mut reply)?;
    assert_eq!(&reply, b"e");
    match stream.read(&mut reply)? {
        0 => Ok(()),
        _ => panic!("more than was asked for"),
    }
}

/// A connection to `traffic` on which workers wait until their deadline.
pub fn hold(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(b"i").expect("it is sent");
    stream.read_exact(&mut [0]).expect("it is answered");
    stream
}

/// Clients of `traffic` that ask again and again.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<BTreeMap<String, usize>>>,
}

impl Load {
    /// As much as a few clients can.
    pub fn on(address: SocketAddr) -> Load {
        Load::of(4, Duration::ZERO, address)
    }

    /// Of so many clients, with a pause after each request.
    pub fn of(clients: usize, pause: Duration, address: SocketAddr) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut outcomes = BTreeMap::new();
                loop {
                    let outcome = match short(address) {
                        Ok(()) => "served".to_owned(),
                        Err(error) => error.kind().to_string(),
                    };
                    *outcomes.entry(outcome).or_default() += 1;
                    // After a request, however busy the machine is.
                    if stop.load(Relaxed) {
                        return outcomes;
                    }
                    thread::sleep(pause);
                }
            })
        });
        Load {
            clients: clients.collect(),
            stop,
        }
    }

    /// Ends it: how often what came of a request.
    pub fn end(mut self) -> BTreeMap<String, usize> {
        self.stop.store(true, Relaxed);
        let mut all = BTreeMap::new();
        for client in std::mem::take(&mut self.clients) {
            for (outcome, count) in client.join().expect("no client panics") {
                *all.entry(outcome).or_default() += count;
            }
        }
        all
    }

    /// Ends it, and asserts that each request was served.
    #[track_caller]
    pub fn lost_nothing(self) {
        let outcomes = self.end();
        assert_eq!(
            outcomes.keys().collect::<Vec<_>>(),
            ["served"],
            "{outcomes:?}"
        );
    }
}

impl Drop for Load {
    /// Also where a test fails.
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}
