//! The zmq example as a real process, with clients in Python.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use aioxide_tests::{Ended, Running, Signal};
use tempfile::TempDir;

/// Pushes as many messages as asked, and ends when all are sent.
const CLIENT: &str = "
import sys, zmq
context = zmq.Context()
push = context.socket(zmq.PUSH)
push.connect('tcp://' + sys.argv[1])
for n in range(int(sys.argv[2])):
    push.send_string(f'message {n} of {sys.argv[3]}')
push.close()
context.term()
";

/// Python with pyzmq, below the target folder.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pyzmq");
    let python = folder.join("bin/python");
    let has_pyzmq = Command::new(&python)
        .args(["-c", "import zmq"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_pyzmq {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "pyzmq"]));
    }
    python
});

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// A client that is killed when the test fails.
struct Client(Child);

impl Client {
    fn start(address: SocketAddr, messages: usize, name: &str) -> Client {
        let (address, messages) = (address.to_string(), messages.to_string());
        let client = Command::new(&*PYTHON)
            .args(["-c", CLIENT, &address, &messages, name])
            .stdin(Stdio::null())
            .spawn()
            .expect("Python runs");
        Client(client)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn zmq(isolation: &str, listen: &str, folder: &TempDir) -> Running {
    let program = env!("CARGO_BIN_EXE_zmq");
    Running::start(
        Command::new(program)
            .args(["--isolation", isolation, "--listen", listen])
            .args(["--workers", "3", "--backend"])
            .arg(backend(folder)),
    )
}

fn backend(folder: &TempDir) -> PathBuf {
    folder.path().join("backend.sock")
}

fn assert_graceful(ended: &Ended, folder: &TempDir) {
    assert_eq!(ended.code, Some(0), "{:#?}", ended.errors());
    assert_eq!(ended.errors(), Vec::<&str>::new());
    assert_eq!(ended.lines("torn down: SIGTERM").count(), 3);
    assert_eq!(ended.lines("the router has ended").count(), 1);
    assert!(!backend(folder).exists(), "the router's socket is left");
}

/// What was worked on, each message once.
fn worked_on(ended: &Ended) -> HashSet<&str> {
    let messages: Vec<&str> = ended.lines("worked on ").map(message_in).collect();
    let different: HashSet<&str> = messages.iter().copied().collect();
    assert_eq!(different.len(), messages.len(), "worked on twice");
    different
}

fn message_in(line: &str) -> &str {
    let message = line.split("worked on ").nth(1).unwrap_or_default();
    message.split(" worker=").next().unwrap_or_default()
}

fn number_after(line: &str, name: &str) -> usize {
    let number = line
        .split(name)
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no number in `{line}`"))
}

fn ten_thousand_messages_are_worked_on_exactly_once(isolation: &str) {
    let folder = TempDir::new().expect("a folder");
    let mut server = zmq(isolation, "127.0.0.1:0", &folder);
    let address = server.wait_until_ready();
    let _clients = ["a", "b", "c", "d"].map(|name| Client::start(address, 2500, name));
    for _ in 0..10_000 {
        server.wait_for("worked on ");
    }
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended, &folder);
    let worked_on = worked_on(&ended);
    for name in ["a", "b", "c", "d"] {
        for n in 0..2500 {
            let message = format!("message {n} of {name}");
            assert!(worked_on.contains(&*message), "`{message}` is missing");
        }
    }
    assert_eq!(worked_on.len(), 10_000);
    for line in ended.lines("torn down") {
        assert!(number_after(line, "worked=") > 0, "{line}");
    }
}

fn a_stop_under_load_is_clean(isolation: &str) {
    let folder = TempDir::new().expect("a folder");
    let mut server = zmq(isolation, "127.0.0.1:0", &folder);
    let address = server.wait_until_ready();
    let _client = Client::start(address, usize::MAX >> 1, "many");
    for _ in 0..1000 {
        server.wait_for("worked on ");
    }
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended, &folder);
    let counted: usize = ended
        .lines("torn down")
        .map(|line| number_after(line, "worked="))
        .sum();
    assert_eq!(worked_on(&ended).len(), counted);
}

fn a_router_that_cannot_listen_takes_the_server_down(isolation: &str) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    let folder = TempDir::new().expect("a folder");
    let ended = zmq(isolation, &address, &folder).wait();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    let errors = ended.errors();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains(&address), "{errors:#?}");
    assert!(errors[0].contains("in use"), "{errors:#?}");
    assert!(!backend(&folder).exists(), "the router's socket is left");
}

aioxide_tests::under_both_isolations! {
    ten_thousand_messages_are_worked_on_exactly_once,
    a_stop_under_load_is_clean,
    a_router_that_cannot_listen_takes_the_server_down,
}
