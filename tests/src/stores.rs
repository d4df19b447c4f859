//! Real servers that keep leases, each in a folder and on ports of its own: PostgreSQL and etcd.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Folder, Running, Signal};

/// A server that runs until it is dropped.
pub struct Store {
    /// `None` only while it is restarted.
    running: Option<Running>,
    start: Box<dyn Fn() -> Command>,
    /// What it logs when it can be reached.
    ready: &'static str,
    /// Ends it at once.
    end: Signal,
    address: SocketAddr,
    /// Goes after the server.
    _folder: Folder,
}

impl Store {
    /// PostgreSQL. It isn't willing to run as root, where it runs as the user `postgres`.
    pub fn postgres() -> Store {
        let programs = postgres_programs();
        let folder = Folder::new();
        let user = rustix::process::geteuid().is_root().then(|| {
            let ids = (id("-u"), id("-g"));
            chown(folder.path(), Some(ids.0), Some(ids.1)).expect("root may give the folder away");
            ids
        });
        let as_user = move |program: PathBuf| {
            let mut command = Command::new(program);
            if let Some((user, group)) = user {
                command.uid(user).gid(group);
            }
            command
        };
        let data = folder.file("data");
        let made = as_user(programs.join("initdb"))
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--pgdata",
            ])
            .arg(&data)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .status()
            .expect("initdb can be started");
        assert!(made.success(), "initdb: {made}");

        let (address, at) = (free_port(), folder.path().to_owned());
        let start = move || {
            let mut command = as_user(programs.join("postgres"));
            command.current_dir(&at).arg("-D").arg(&data);
            for setting in [
                "listen_addresses=127.0.0.1",
                "unix_socket_directories=",
                "fsync=off",
                "log_checkpoints=off",
                "shared_buffers=1MB",
            ] {
                command.args(["-c", setting]);
            }
            command.args(["-p", &address.port().to_string()]);
            command
        };
        let ready = "database system is ready to accept connections";
        Store::run(start, ready, Signal::QUIT, address, folder)
    }

    /// etcd, one member.
    pub fn etcd() -> Store {
        let folder = Folder::new();
        let (address, peers, data) = (free_port(), free_port(), folder.file("data"));
        let start = move || {
            let (client, peer) = (format!("http://{address}"), format!("http://{peers}"));
            let mut command = Command::new("etcd");
            command.arg("--data-dir").arg(&data);
            command.args(["--logger", "zap", "--name", "only"]);
            command.args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ]);
            command.args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ]);
            command.args(["--initial-cluster", &format!("only={peer}")]);
            command
        };
        Store::run(
            start,
            "serving client traffic",
            Signal::KILL,
            address,
            folder,
        )
    }

    fn run(
        start: impl Fn() -> Command + 'static,
        ready: &'static str,
        end: Signal,
        address: SocketAddr,
        folder: Folder,
    ) -> Store {
        let mut store = Store {
            running: None,
            start: Box::new(start),
            ready,
            end,
            address,
            _folder: folder,
        };
        store.start();
        store
    }

    fn start(&mut self) {
        let mut running = Running::start(&mut (self.start)());
        running.wait_for(self.ready);
        self.running = Some(running);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it at once, as a crash does, and starts it again where it was.
    pub fn restart(&mut self) {
        self.end();
        self.start();
    }

    fn end(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop(self.end);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.end();
    }
}

/// Where the newest PostgreSQL has its programs, which Debian keeps out of `PATH`.
fn postgres_programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").map(Iterator::collect::<Vec<_>>);
    let mut programs: Vec<(u32, PathBuf)> = versions
        .unwrap_or_default()
        .into_iter()
        .filter_map(|version| {
            let version = version.ok()?;
            let number = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin")))
        })
        .filter(|(_, programs)| programs.join("initdb").exists())
        .collect();
    programs.sort();
    match programs.pop() {
        Some((_, programs)) => programs,
        // As elsewhere than in Debian, from `PATH`.
        None => Path::new("").to_owned(),
    }
}

fn id(which: &str) -> u32 {
    let output = Command::new("id").args([which, "postgres"]).output();
    let output = output.expect("`id` can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().expect("there is a user `postgres`")
}

/// A port that was free a moment ago, below those that the system gives out by itself.
fn free_port() -> SocketAddr {
    loop {
        let random = RandomState::new().hash_one(0);
        let port = 10_000 + u16::try_from(random % 20_000).expect("it is less");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
