//! What it costs to be looked into: the monitor off, on, and scraped each second.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::plan::{Plan, in_turn};
use super::under_load::{COLUMNS as UNDER_LOAD, figures};
use crate::kinds::{HTTP_THREADS, Kind, PROCESSES, THREADS};
use crate::load::{Load, Protocol};
use crate::processes::{cpu_nanos, memory};
use crate::running::{Server, free_address};
use crate::serve::runtime;
use crate::stats::Spread;
use crate::table::{Column, Table, told};

const WORKERS: usize = 1;
/// Under load in a round, in so many turns, in the first of which is the scrape of this second.
const SECOND: Duration = Duration::from_secs(1);
const TURNS: u32 = 8;

const LIMITS: &str = "
As the tables of persistent connections, for a second in each round, the three rows in turns of an eighth of it; with one worker, because how
connections fall on several makes for more than the monitor does. A monitor is a door and health checks by TCP, of which Prometheus
gets the metrics, as here once a second; CPU is that of all threads, the monitor's own among them.";

const DOOR: &str = "door";

/// Of whom one worker's memory is measured, in one server and in another.
const FEW: usize = 1;
const MANY: usize = 5;
const CLIENTS: usize = 20;
const LOADED: Duration = Duration::from_millis(500);
/// In KiB, of a worker.
const MORE: f64 = 64.0;

const HELD: &[Column] = &[
    told("just started, KiB"),
    told("looked into, KiB"),
    told("with 20 clients, KiB"),
];

const LIMITS_HELD: &str = "
Private_Dirty of one more worker: the difference between servers of 5 workers and of 1, by 4, over all their processes. Those with a
monitor are scraped, with their connections, contexts and tasks listed as well, before the second figure and again before the third, which
comes after half a second of echo on 20 persistent connections, and with these open.";

/// Whether a server may be looked into, and is.
#[derive(Clone, Copy, PartialEq)]
enum Look {
    Off,
    On,
    Scraped,
}

impl Look {
    const ALL: [Look; 3] = [Look::Off, Look::On, Look::Scraped];

    fn name(self, kind: Kind) -> String {
        let kind = kind.name;
        match self {
            Look::Off => kind.to_owned(),
            Look::On => format!("{kind}, monitor"),
            Look::Scraped => format!("{kind}, monitor scraped each second"),
        }
    }
}

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    Ok(vec![
        under_load(plan, "echo", THREADS, Protocol::Bytes)?,
        under_load(plan, "HTTP", HTTP_THREADS, Protocol::Http)?,
        held(plan)?,
    ])
}

/// A server, and where it can be looked into.
struct Watched {
    server: Server,
    health: Option<SocketAddr>,
    folder: TempDir,
}

impl Watched {
    fn start(kind: Kind, workers: usize, look: Look) -> Result<Watched> {
        let folder = tempfile::tempdir()?;
        let health = match look {
            Look::Off => None,
            Look::On | Look::Scraped => Some(free_address()?),
        };
        let options = health.map(|health| {
            let door = folder.path().join(DOOR);
            [
                format!("--health={health}"),
                format!("--monitor={}", door.display()),
            ]
        });
        let options: Vec<&str> = options.iter().flatten().map(String::as_str).collect();
        Ok(Watched {
            server: Server::start_with(kind, workers, None, &options)?,
            health,
            folder,
        })
    }

    /// As Prometheus does, and then a person.
    fn look_into(&self) -> Result<()> {
        if let Some(health) = self.health {
            scrape(health)?;
            for path in ["/workers", "/connections", "/timers", "/contexts", "/tasks"] {
                get(UnixStream::connect(self.door())?, path)?;
            }
        }
        Ok(())
    }

    fn door(&self) -> PathBuf {
        self.folder.path().join(DOOR)
    }

    /// Private_Dirty of all its processes, in KiB.
    fn dirty(&self) -> Result<f64> {
        let family = self.server.program.family()?.into_iter();
        let each = family.map(|pid| memory(pid, "Private_Dirty"));
        each.sum()
    }
}

/// As Prometheus does.
fn scrape(health: SocketAddr) -> Result<()> {
    get(TcpStream::connect(health)?, "/metrics")
}

fn get(mut stream: impl Read + Write, path: &str) -> Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    Ok(())
}

fn under_load(plan: &Plan, what: &str, kind: Kind, protocol: Protocol) -> Result<Table> {
    let title = format!("Monitor, {what} on persistent connections, {WORKERS} worker");
    let mut table = Table::new(title, kind.name, UNDER_LOAD, LIMITS);
    let runtime = runtime()?;
    for round in 0..plan.rounds {
        let mut servers = Vec::new();
        for look in Look::ALL {
            let watched = Watched::start(kind, WORKERS, look)?;
            let family = watched.server.program.family()?;
            servers.push((look, watched, family, Vec::new()));
        }
        for turn in 0..TURNS as usize {
            for (look, watched, family, turns) in in_turn(&mut servers, round + turn) {
                let mut clients = Load::new(watched.server.address, protocol).clients();
                let time = SECOND / TURNS;
                runtime.block_on(clients.run(time / 10))?;
                let before = cpu_nanos(family)?;
                let outcome = thread::scope(|scope| {
                    let is_due = *look == Look::Scraped && turn == 0;
                    let health = watched.health.filter(|_| is_due);
                    let scraped = health.map(|health| scope.spawn(move || scrape(health)));
                    let outcome = runtime.block_on(clients.run(time));
                    let scraped = scraped.map(|scraped| scraped.join());
                    scraped
                        .map_or(Some(Ok(())), Result::ok)
                        .context("the scraper panicked")??;
                    outcome
                })?;
                turns.push((outcome, cpu_nanos(family)? - before));
            }
        }
        for (look, watched, _, turns) in servers {
            watched.server.program.stop()?;
            let name = look.name(kind);
            table.add(&name, figures(turns).with_context(|| name.clone())?);
        }
    }
    for look in [Look::On, Look::Scraped] {
        table.bound_on_ratio(&look.name(kind), kind.name, 0, 1.02);
    }
    Ok(table)
}

fn held(plan: &Plan) -> Result<Table> {
    let mut table = Table::new(
        "Monitor, memory of one more worker",
        THREADS.name,
        HELD,
        LIMITS_HELD,
    );
    for kind in [THREADS, PROCESSES] {
        let mut differences = [const { Vec::new() }; HELD.len()];
        for _ in 0..plan.few_rounds() {
            let off = one_more(kind, Look::Off)?;
            let on = one_more(kind, Look::On)?;
            table.add(&Look::Off.name(kind), off);
            table.add(&Look::On.name(kind), on);
            for (differences, (on, off)) in differences.iter_mut().zip(on.into_iter().zip(off)) {
                differences.push(on - off);
            }
        }
        for (column, differences) in HELD.iter().zip(&differences) {
            let claim = format!("{}, what the monitor adds, {}", kind.name, column.name);
            table.bound(claim, Spread::of(differences), MORE);
        }
    }
    Ok(table)
}

fn one_more(kind: Kind, look: Look) -> Result<[f64; HELD.len()]> {
    let (few, many) = (dirty(kind, FEW, look)?, dirty(kind, MANY, look)?);
    let mut more = [0.0; HELD.len()];
    for (more, (few, many)) in more.iter_mut().zip(few.into_iter().zip(many)) {
        *more = (many - few) / (MANY - FEW) as f64;
    }
    Ok(more)
}

/// Of a whole server.
fn dirty(kind: Kind, workers: usize, look: Look) -> Result<[f64; HELD.len()]> {
    let watched = Watched::start(kind, workers, look)?;
    let started = watched.dirty()?;
    watched.look_into()?;
    let looked_into = watched.dirty()?;
    let load = Load {
        connections: CLIENTS,
        ..Load::new(watched.server.address, Protocol::Bytes)
    };
    let mut clients = load.clients();
    runtime()?.block_on(clients.run(LOADED))?;
    watched.look_into()?;
    let with_clients = watched.dirty()?;
    drop(clients);
    watched.server.program.stop()?;
    Ok([started, looked_into, with_clients])
}
