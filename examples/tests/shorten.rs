//! The shorten example as real processes, over SQLite and PostgreSQL, with real HTTP clients and `kill -9`.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use aioxide_tests::{Ended, PATIENCE, Running, Signal, address_in};
use rustix::process::Pid;
use tempfile::TempDir;

const WORKERS: usize = 3;
const WRITERS: usize = 6;
const KILLS: usize = 2 * WORKERS;

fn shorten(database: &str, leases: &TempDir, args: &[&str]) -> Running {
    let program = env!("CARGO_BIN_EXE_shorten");
    Running::start(
        Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--workers", "3"])
            .args(args)
            .arg("--leases")
            .arg(leases.path().join("leases"))
            .env("DATABASE_URL", database),
    )
}

fn sqlite(folder: &TempDir) -> String {
    format!("sqlite://{}/links.db?mode=rwc", folder.path().display())
}

fn client() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .build()
        .into()
}

/// The path of a shortened URL, or of several.
fn add(client: &ureq::Agent, address: SocketAddr, urls: &str) -> Result<String, ureq::Error> {
    let mut response = client.post(format!("http://{address}/")).send(urls)?;
    assert_eq!(response.status(), 201);
    response.body_mut().read_to_string()
}

/// Where a path leads.
fn follow(client: &ureq::Agent, address: SocketAddr, path: &str) -> Result<String, ureq::Error> {
    let response = client.get(format!("http://{address}{path}")).call()?;
    assert_eq!(response.status(), 307);
    let location = response.headers().get("location").expect("a location");
    Ok(location.to_str().expect("a location in ASCII").to_owned())
}

fn pid_in(line: &str) -> Pid {
    let number = line
        .split("pid=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    number
        .and_then(|number| Pid::from_raw(number.parse().ok()?))
        .unwrap_or_else(|| panic!("no pid in `{line}`"))
}

#[test]
fn several_urls_are_shortened_together_or_not_at_all_and_expire() {
    let folder = TempDir::new().expect("a folder");
    let args = ["--lifetime", "5", "--sweep", "1"];
    let mut server = shorten(&sqlite(&folder), &folder, &args);
    let address = server.wait_until_ready();
    let client = client();
    add(&client, address, "https://example.org/0").expect("an answer");
    let sweeper = pid_in(&server.wait_for("expired links removed=1"));

    for urls in [
        "https://example.org/1\nhttps://example.org/2\nno URL\n",
        "no URL",
        "",
    ] {
        let refused = add(&client, address, urls);
        assert!(
            matches!(refused, Err(ureq::Error::StatusCode(400))),
            "{refused:?}"
        );
    }
    let paths = add(
        &client,
        address,
        "https://example.org/3\nhttps://example.org/4\n",
    )
    .expect("an answer");
    let paths: Vec<&str> = paths.lines().collect();
    assert_eq!(paths.len(), 2);
    for (path, url) in [
        (paths[0], "https://example.org/3"),
        (paths[1], "https://example.org/4"),
    ] {
        assert_eq!(follow(&client, address, path).expect("an answer"), url);
    }

    // When the one worker is dead that removes expired links, another does. Of the requests that were refused nothing is
    // left: two links expire, not four.
    rustix::process::kill_process(sweeper, Signal::KILL).expect("a worker to kill");
    let removed = server.wait_for("expired links removed=2");
    assert_ne!(pid_in(&removed), sweeper);
    let gone = follow(&self::client(), address, paths[0]);
    assert!(
        matches!(gone, Err(ureq::Error::StatusCode(404))),
        "{gone:?}"
    );

    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_only_kills_failed(&ended, 1);
}

#[test]
fn a_database_that_cannot_be_opened_is_told_in_one_line() {
    let folder = TempDir::new().expect("a folder");
    let ended = shorten("sqlite:///no/such/folder/links.db", &folder, &[]).wait();
    assert_eq!(ended.code, Some(2), "{:#?}", ended.log);
    assert_eq!(ended.errors().len(), 1, "{:#?}", ended.log);
}

#[test]
fn one_worker_makes_the_report() {
    let folder = TempDir::new().expect("a folder");
    report(&sqlite(&folder));
    if let Some(database) = Postgres::start() {
        report(&database.url);
    }
}

/// At the wish of the operator; whoever doesn't hold the lease does nothing.
fn report(database: &str) {
    let folder = TempDir::new().expect("a folder");
    let mut server = shorten(database, &folder, &[]);
    let address = server.wait_until_ready();
    add(&client(), address, "https://example.org/").expect("an answer");
    // Workers that are ready may have yet to agree who it is: it is asked for until it comes.
    let (made, pid) = (AtomicBool::new(false), server.pid());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !made.load(Ordering::Relaxed) {
                rustix::process::kill_process(pid, Signal::USR1).expect("a server to tell");
                thread::sleep(Duration::from_millis(100));
            }
        });
        server.wait_for("report links=1");
        made.store(true, Ordering::Relaxed);
    });
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
}

#[test]
fn killed_workers_lose_no_acknowledged_write_in_sqlite() {
    let folder = TempDir::new().expect("a folder");
    killed_workers_lose_no_acknowledged_write(&sqlite(&folder));
}

#[test]
fn killed_workers_lose_no_acknowledged_write_in_postgresql() {
    let Some(database) = Postgres::start() else {
        eprintln!("skipped: no `initdb` on the PATH");
        return;
    };
    killed_workers_lose_no_acknowledged_write(&database.url);
}

fn killed_workers_lose_no_acknowledged_write(database: &str) {
    let folder = TempDir::new().expect("a folder");
    let mut server = shorten(database, &folder, &[]);
    let mut pids: Vec<Pid> = (0..WORKERS)
        .map(|_| pid_in(&server.wait_for("set up")))
        .collect();
    // Which may have been told before the last of them has told that it is set up.
    let address = address_in(&server.wait_until_logged("ready, listening on"));

    let (sender, acknowledged) = channel();
    let enough = AtomicBool::new(false);
    let (links, resets) = thread::scope(|scope| {
        let writers = (0..WRITERS).map(|writer| {
            let (sender, enough) = (sender.clone(), &enough);
            scope.spawn(move || write(address, writer, &sender, enough))
        });
        let writers: Vec<_> = writers.collect();
        drop(sender);
        let mut links = HashMap::new();
        let mut take = |count| {
            for _ in 0..count {
                let (path, url) = acknowledged
                    .recv_timeout(PATIENCE)
                    .expect("writes are acknowledged");
                assert_eq!(links.insert(path, url), None, "a code was given twice");
            }
        };
        for round in 0..KILLS {
            take(100);
            let pid = &mut pids[round % WORKERS];
            rustix::process::kill_process(*pid, Signal::KILL).expect("a worker to kill");
            *pid = pid_in(&server.wait_for("set up"));
        }
        take(100);
        enough.store(true, Ordering::Relaxed);
        links.extend(acknowledged);
        let resets = writers
            .into_iter()
            .map(|writer| writer.join().expect("every other write is acknowledged"));
        (links, resets.sum::<usize>())
    });
    // A writer has one connection: a kill resets it, or it was another worker's.
    assert!((1..=WRITERS * KILLS).contains(&resets), "{resets} resets");

    let client = client();
    for (path, url) in &links {
        let found = follow(&client, address, path).expect("an acknowledged link is there");
        assert_eq!(&found, url);
    }
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_only_kills_failed(&ended, KILLS);
}

#[test]
fn rolling_restarts_lose_no_request() {
    let folder = TempDir::new().expect("a folder");
    let mut server = shorten(&sqlite(&folder), &folder, &[]);
    let address = server.wait_until_ready();
    let enough = AtomicBool::new(false);
    let links: Vec<(String, String)> = thread::scope(|scope| {
        let writers = (0..WRITERS).map(|writer| {
            let enough = &enough;
            scope.spawn(move || {
                let mut links = Vec::new();
                // A client of its own each time: on a connection that is kept open, a request and the server's
                // goodbye may cross.
                while !enough.load(Ordering::Relaxed) {
                    let url = format!("https://example.org/{writer}/{}", links.len());
                    let path = add(&client(), address, &url).expect("an answer");
                    links.push((path.trim_end().to_owned(), url));
                }
                links
            })
        });
        let writers: Vec<_> = writers.collect();
        for _ in 0..3 {
            server.signal(Signal::HUP);
            server.wait_for("rolling restart done");
        }
        enough.store(true, Ordering::Relaxed);
        let writers = writers.into_iter();
        writers
            .flat_map(|writer| writer.join().expect("every request is answered"))
            .collect()
    });
    let client = client();
    for (path, url) in &links {
        assert_eq!(&follow(&client, address, path).expect("the link"), url);
    }
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
    assert_eq!(ended.lines("set up").count(), WORKERS + 3 * WORKERS);
}

/// Shortens one URL after the other and sends on what was acknowledged. Gives the number of connections that a
/// killed worker reset; none is refused, left waiting, or answered with an error.
fn write(
    address: SocketAddr,
    writer: usize,
    acknowledged: &Sender<(String, String)>,
    enough: &AtomicBool,
) -> usize {
    let client = client();
    let mut resets = 0;
    for nth in 0.. {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        let url = format!("https://example.org/{writer}/{nth}");
        match add(&client, address, &url) {
            Ok(path) => {
                let _ = acknowledged.send((path.trim_end().to_owned(), url));
            }
            // Whether this link was added is not known.
            Err(ureq::Error::Io(error)) if is_reset(&error) => resets += 1,
            Err(error) => panic!("{url}: {error}"),
        }
    }
    resets
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
    )
}

fn assert_only_kills_failed(ended: &Ended, kills: usize) {
    let errors = ended.errors();
    assert_eq!(errors.len(), kills, "{errors:#?}");
    for error in errors {
        assert!(error.contains("SIGKILL"), "{error}");
    }
}

/// A PostgreSQL server of the test's own, in a folder of its own, without a port.
struct Postgres {
    folder: TempDir,
    url: String,
}

impl Postgres {
    /// `None` when PostgreSQL is not installed.
    fn start() -> Option<Postgres> {
        Command::new("initdb").arg("--version").output().ok()?;
        let folder = TempDir::new().expect("a folder");
        let path = folder.path();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("a folder to give");
        }
        run(path, &["initdb", "-A", "trust", "-U", "links", "-D"], &[]);
        let options = format!(
            "-o-k {} -c listen_addresses='' -c unix_socket_permissions=0777",
            path.display()
        );
        let log = format!("-l{}/log", path.display());
        run(path, &["pg_ctl", "start", "-w", "-D"], &[&options, &log]);
        let url = format!(
            "postgres://links@localhost/postgres?host={}",
            path.display()
        );
        Some(Postgres { folder, url })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let stop = ["pg_ctl", "stop", "-w", "-m", "immediate", "-D"];
        run(self.folder.path(), &stop, &[]);
    }
}

/// PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// Runs a command of PostgreSQL's on the data in `folder`.
fn run(folder: &Path, command: &[&str], options: &[&str]) {
    let data = folder.join("data");
    let mut process = Command::new(command[0]);
    process
        .args(&command[1..])
        .arg(data)
        .args(options)
        .current_dir(folder);
    if rustix::process::geteuid().is_root() {
        process.uid(NOBODY).gid(NOBODY);
    }
    // Not piped: the server that is started would hold the pipe open.
    let status = process
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
