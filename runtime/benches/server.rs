//! What a server costs beside the same handler on hand-written runtimes and on actix-server, how fast it
//! starts and stops beside a program that starts itself again as often, and what its processes hold.
//!
//! `cargo bench -p aioxide --bench server [-- [echo] [lifecycle] [memory] [--rounds N]]`. Each server is a
//! process of its own, and they take turns. A figure is the median of the rounds, a ratio the median of the
//! rounds' ratios, with the quartiles in parentheses; 31 rounds unless told otherwise. Ends with an error when
//! a median is over its bound. Linux only.
//!
//! Costs are CPU time and bear other load; lifecycles are wall time, and on a busy machine mean something only
//! with a real-time priority: `chrt -r 50 cargo bench ...`.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fmt, fs, thread};

use aioxide::{Isolation, Server, Worker, actxmgr};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

const ROUNDS: usize = 31;
const WORKERS: usize = 2;
const CONNECTIONS: usize = 64;
const MESSAGE: usize = 64;
/// Turns of each server in a round.
const TURNS: usize = 8;
/// In a turn, on each of the connections.
const REQUESTS: usize = 60;
/// In a turn, by each of as many clients.
const FRESH: usize = 10;

const BARE: &str = "bare threads";
const BARE_PROCESSES: &str = "bare processes";
const THREADS: &str = "aioxide threads";
const PROCESSES: &str = "aioxide processes";
const ACTIX: &str = "actix-server";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", kind, port, workers, ballast] => {
            let port = port.parse().expect("a port");
            let workers = workers.parse().expect("a number of workers");
            serve(kind, port, workers, ballast.parse().expect("MiB"))
        }
        _ => measure(&args),
    }
}

fn measure(args: &[&str]) -> ExitCode {
    let mut rounds = ROUNDS;
    let mut wanted = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--rounds" => {
                let number = args.next().and_then(|number| number.parse().ok());
                rounds = number.expect("`--rounds` takes a number");
            }
            "echo" | "lifecycle" | "memory" => wanted.push(*arg),
            other => panic!("`{other}`: expected echo, lifecycle, memory or --rounds N"),
        }
    }
    let wants = |part| wanted.is_empty() || wanted.contains(&part);
    let mut bounds = Bounds { kept: true };
    if wants("echo") {
        echo_costs(rounds, &mut bounds);
    }
    if wants("lifecycle") {
        lifecycles(rounds, &mut bounds);
    }
    if wants("memory") {
        memory(&mut bounds);
    }
    match bounds.kept {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

// What is measured.

fn echo_costs(rounds: usize, bounds: &mut Bounds) {
    const KINDS: [&str; 5] = [BARE, THREADS, ACTIX, PROCESSES, BARE_PROCESSES];
    let runtime = runtime();
    let mut persistent = Samples::default();
    let mut fresh = Samples::default();
    for round in 0..rounds {
        let servers = KINDS.map(|kind| Running::start(kind, WORKERS, 0));
        let families = servers.each_ref().map(Running::family);
        let mut nanos = [[0; 2]; KINDS.len()];
        // In short turns, so that what else the machine does meets all of them, and each turn with new
        // connections, because how evenly these fall on the workers makes a difference.
        for turn in 0..TURNS * KINDS.len() {
            let which = (round + turn + turn / KINDS.len()) % KINDS.len();
            let (address, family) = (servers[which].address, &families[which]);
            let [persistent, fresh] = &mut nanos[which];

            let connections = runtime.block_on(connect(address));
            let connections = runtime.block_on(talk(connections, REQUESTS / 10));
            let before = cpu_nanos(family);
            let connections = runtime.block_on(talk(connections, REQUESTS));
            *persistent += cpu_nanos(family) - before;
            drop(connections);

            runtime.block_on(talk_afresh(address, FRESH / 10));
            let before = cpu_nanos(family);
            runtime.block_on(talk_afresh(address, FRESH));
            *fresh += cpu_nanos(family) - before;
        }
        for (kind, nanos) in KINDS.into_iter().zip(nanos) {
            let micros =
                |nanos: u64, requests: usize| nanos as f64 / 1e3 / (TURNS * requests) as f64;
            persistent.add(kind, micros(nanos[0], CONNECTIONS * REQUESTS));
            fresh.add(kind, micros(nanos[1], CONNECTIONS * FRESH));
        }
        for server in servers {
            server.stop();
        }
    }

    println!("server CPU per request, µs: {CONNECTIONS} connections, {WORKERS} workers");
    for kind in KINDS {
        bounds.tell(&format!("{kind}, persistent"), persistent.of(kind));
    }
    for kind in KINDS {
        bounds.tell(&format!("{kind}, fresh"), fresh.of(kind));
    }
    println!("ratios");
    let mut check = |which, samples: &Samples, kind, other, bound| {
        bounds.check(
            &format!("{kind}, {which} / {other}"),
            samples.ratio(kind, other),
            bound,
        );
    };
    for kind in [THREADS, PROCESSES] {
        check("persistent", &persistent, kind, BARE, 1.03);
        check("persistent", &persistent, kind, ACTIX, 1.0);
        check("fresh", &fresh, kind, ACTIX, 0.85);
    }
    // How much of that is the machine's.
    for (kind, other) in [
        (BARE_PROCESSES, BARE),
        (BARE, ACTIX),
        (PROCESSES, BARE_PROCESSES),
    ] {
        bounds.tell(
            &format!("{kind}, persistent / {other}"),
            persistent.ratio(kind, other),
        );
    }
    for (kind, other) in [(BARE, ACTIX), (THREADS, BARE), (PROCESSES, BARE_PROCESSES)] {
        bounds.tell(
            &format!("{kind}, fresh / {other}"),
            fresh.ratio(kind, other),
        );
    }
}

fn lifecycles(rounds: usize, bounds: &mut Bounds) {
    println!("start to all ready, and SIGTERM to exit, ms");
    for workers in [1, 4, 8] {
        for [bare, aioxide] in [[BARE_PROCESSES, PROCESSES], [BARE, THREADS]] {
            let mut starts = Samples::default();
            let mut stops = Samples::default();
            for round in 0..rounds {
                for place in 0..2 {
                    let kind = [bare, aioxide][(round + place) % 2];
                    let server = Running::start(kind, workers, 0);
                    starts.add(kind, millis(server.start));
                    stops.add(kind, millis(server.stop()));
                }
            }
            let (start, stop) = (starts.of(bare), stops.of(bare));
            let bound = 1.5 * start.median + 2.0;
            bounds.tell(&format!("{workers} {bare}, start"), start);
            bounds.check(
                &format!("{workers} {aioxide}, start"),
                starts.of(aioxide),
                bound,
            );
            let bound = stop.median + 5.0;
            bounds.tell(&format!("{workers} {bare}, stop"), stop);
            bounds.check(
                &format!("{workers} {aioxide}, stop"),
                stops.of(aioxide),
                bound,
            );
        }
    }
}

fn memory(bounds: &mut Bounds) {
    println!("Private_Dirty of the worker processes, KiB");
    let of_each = |kind, ballast| -> Spread {
        let server = Running::start(kind, WORKERS, ballast);
        let workers = &server.family()[1..];
        assert_eq!(workers.len(), WORKERS);
        let dirty = workers.iter().map(|pid| private_dirty(*pid)).collect();
        server.stop();
        Spread::from(dirty)
    };
    bounds.tell(BARE_PROCESSES, of_each(BARE_PROCESSES, 0));
    for ballast in [0, 1024] {
        let what = format!("{PROCESSES}, the supervisor holds {ballast} MiB");
        bounds.check(&what, of_each(PROCESSES, ballast), 1024.0);
    }
}

struct Bounds {
    kept: bool,
}

impl Bounds {
    fn check(&mut self, what: &str, figure: Spread, bound: f64) {
        let kept = figure.median <= bound;
        self.kept &= kept;
        let verdict = if kept { "ok" } else { "OVER" };
        println!("  {what:<52} {figure}  at most {bound:8.3}  {verdict}");
    }

    fn tell(&self, what: &str, figure: Spread) {
        println!("  {what:<52} {figure}");
    }
}

/// What each kind of server took, round by round.
#[derive(Default)]
struct Samples(BTreeMap<&'static str, Vec<f64>>);

impl Samples {
    fn add(&mut self, kind: &'static str, sample: f64) {
        self.0.entry(kind).or_default().push(sample);
    }

    fn of(&self, kind: &str) -> Spread {
        Spread::from(self.0[kind].clone())
    }

    fn ratio(&self, kind: &str, other: &str) -> Spread {
        let pairs = self.0[kind].iter().zip(&self.0[other]);
        Spread::from(pairs.map(|(kind, other)| kind / other).collect())
    }
}

/// A median and the quartiles around it.
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn from(mut samples: Vec<f64>) -> Spread {
        samples.sort_by(f64::total_cmp);
        let at = |quarter: usize| samples[(samples.len() - 1) * quarter / 4];
        Spread {
            low: at(1),
            median: at(2),
            high: at(3),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { low, median, high } = self;
        write!(f, "{median:8.3} ({low:.3} to {high:.3})")
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

// The servers, as their client sees them.

struct Running {
    child: Child,
    /// Open as long as the server runs, which may log to it.
    _log: BufReader<ChildStdout>,
    address: SocketAddr,
    start: Duration,
}

impl Running {
    fn start(kind: &str, workers: usize, ballast: usize) -> Running {
        let address = free_address();
        let started = Instant::now();
        let mut child = program(kind, address.port(), workers, ballast)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut log = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            let read = log
                .read_line(&mut line)
                .expect("the server's stdout is text");
            assert!(read > 0, "{kind} has ended before it was ready");
        }
        let start = started.elapsed();
        Running {
            child,
            _log: log,
            address,
            start,
        }
    }

    /// How long it takes to stop.
    fn stop(mut self) -> Duration {
        let asked = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .expect("the server can be signalled");
        let status = self.child.wait().expect("the server can be waited for");
        assert!(status.success(), "a server ended with {status}");
        asked.elapsed()
    }

    /// The server's processes, its first one first.
    fn family(&self) -> Vec<u32> {
        let first = self.child.id();
        let all = fs::read_dir("/proc").expect("Linux").filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit(") ").next()?.split(' ').nth(1)?;
            (parent.parse() == Ok(first)).then_some(pid)
        });
        std::iter::once(first).chain(all).collect()
    }
}

impl Drop for Running {
    /// When this program panics, no server is left.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For how long the threads of these processes have run. Exact while they wait.
fn cpu_nanos(family: &[u32]) -> u64 {
    let threads = family
        .iter()
        .flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs"));
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// In KiB.
fn private_dirty(pid: u32) -> f64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the worker runs");
    let line = smaps
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse().ok())
        .expect("Private_Dirty in KiB")
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
}

async fn connect(address: SocketAddr) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(
            TcpStream::connect(address)
                .await
                .expect("the server accepts"),
        );
    }
    connections
}

/// So many requests on each connection.
async fn talk(connections: Vec<TcpStream>, requests: usize) -> Vec<TcpStream> {
    let talks = connections.into_iter().map(async |mut connection| {
        for _ in 0..requests {
            request(&mut connection).await;
        }
        connection
    });
    futures_util::future::join_all(talks).await
}

/// So many requests of each client, each on a connection of its own.
async fn talk_afresh(address: SocketAddr, requests: usize) {
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        clients.spawn(async move {
            for _ in 0..requests {
                let connected = TcpStream::connect(address).await;
                request(&mut connected.expect("the server accepts")).await;
            }
        });
    }
    clients.join_all().await;
}

async fn request(connection: &mut TcpStream) {
    let mut answer = [0; MESSAGE];
    connection
        .write_all(&[7; MESSAGE])
        .await
        .expect("the server reads");
    connection
        .read_exact(&mut answer)
        .await
        .expect("the server answers");
}

// The servers.

/// This program, as a server.
fn program(kind: &str, port: u16, workers: usize, ballast: usize) -> Command {
    let mut program = Command::new(env::current_exe().expect("Linux"));
    let numbers = [usize::from(port), workers, ballast].map(|number| number.to_string());
    program.args(["serve", kind]).args(numbers);
    program
}

fn serve(kind: &str, port: u16, workers: usize, ballast: usize) -> ExitCode {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let served = match kind {
        THREADS => return aioxide_server(Isolation::Thread, address, workers, ballast),
        PROCESSES => return aioxide_server(Isolation::Process, address, workers, ballast),
        BARE => bare_threads(address, workers),
        BARE_PROCESSES => bare_processes(address, workers),
        "bare process" => bare_process(address),
        ACTIX => actix(address, workers),
        other => panic!("no such server: {other}"),
    };
    served.expect("the server runs");
    ExitCode::SUCCESS
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
    }
}

fn aioxide_server(
    isolation: Isolation,
    address: SocketAddr,
    workers: usize,
    ballast: usize,
) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stdout)
        .with_ansi(false)
        .init();
    let run = move |worker: Worker| async move {
        let listener = worker.listen(address).await?;
        let serving = worker.serve(listener, echo);
        let stop = worker.ready().await;
        serving.drain(&stop).await;
        Ok::<_, io::Error>(())
    };
    let server = match ballast {
        0 => Server::new(run),
        mib => Server::with_shared_main(move || hold(mib), move |worker, ()| run(worker)),
    };
    server.isolation(isolation).workers(workers).run()
}

/// Memory that only the supervisor has.
#[actxmgr]
async fn hold(mib: usize) {
    let held = vec![1_u8; mib << 20];
    yield_(()).await;
    drop(held);
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream));
    }
}

fn ready() {
    println!("ready");
}

fn bare_threads(address: SocketAddr, workers: usize) -> io::Result<()> {
    let (bound, all_bound) = mpsc::channel();
    let main = runtime();
    let mut terminated = main.block_on(async { signal(SignalKind::terminate()) })?;
    for _ in 0..workers {
        let bound = bound.clone();
        thread::spawn(move || {
            runtime().block_on(async {
                let listener = listen(address)?;
                // The other end is there until the process ends.
                let _ = bound.send(());
                accept(listener).await
            })
        });
    }
    all_bound.iter().take(workers).for_each(drop);
    ready();
    main.block_on(terminated.recv());
    Ok(())
}

fn bare_processes(address: SocketAddr, workers: usize) -> io::Result<()> {
    let main = runtime();
    let mut terminated = main.block_on(async { signal(SignalKind::terminate()) })?;
    let mut children = Vec::new();
    for _ in 0..workers {
        let (ours, theirs) = UnixStream::pair()?;
        let child = program("bare process", address.port(), 1, 0)
            .stdin(OwnedFd::from(theirs))
            .spawn()?;
        children.push((child, ours));
    }
    for (_, socket) in &mut children {
        socket.read_exact(&mut [0])?;
    }
    ready();
    main.block_on(terminated.recv());
    let children: Vec<Child> = children.into_iter().map(|(child, _)| child).collect();
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

fn bare_process(address: SocketAddr) -> io::Result<()> {
    let control = UnixStream::from(rustix::io::dup(io::stdin())?);
    runtime().block_on(async {
        let listener = listen(address)?;
        (&control).write_all(&[1])?;
        control.set_nonblocking(true)?;
        let mut control = tokio::net::UnixStream::from_std(control)?;
        tokio::select! {
            ended = accept(listener) => ended,
            _ = control.read_u8() => Ok(()),
        }
    })
}

fn actix(address: SocketAddr, workers: usize) -> io::Result<()> {
    runtime().block_on(async {
        let server = actix_server::Server::build()
            .workers(workers)
            .bind("echo", address, || actix_service::fn_service(echo))?
            .run();
        // It listens; what comes before its workers run waits in the backlog.
        ready();
        server.await
    })
}
