//! What a server costs beside the same handler on hand-written runtimes and on actix-server, how fast it
//! starts and stops beside a program that starts itself again as often, and what its processes hold.
//!
//! `cargo bench -p aioxide --bench server [-- [echo] [lifecycle] [memory] [--rounds N]]`. Each server is a
//! process of its own, and they take turns; each figure is the median of its rounds, each ratio the median
//! of the rounds' ratios. Ends with an error when a figure is over its bound. Linux only.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

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
/// On each of the connections.
const REQUESTS: usize = 400;
/// In all, made by as many clients.
const FRESH: usize = 4_096;

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
        // Each kind has each place in the order, so that none gains from its neighbour.
        for place in 0..KINDS.len() {
            let kind = KINDS[(round + place) % KINDS.len()];
            let server = Running::start(kind, WORKERS, 0);
            let family = server.family();
            let cpu = |requests: usize, before: u64| {
                (cpu_nanos(&family) - before) as f64 / 1e3 / requests as f64
            };

            let connections = runtime.block_on(connect(server.address));
            let connections = runtime.block_on(talk(connections, REQUESTS / 10));
            let before = cpu_nanos(&family);
            let connections = runtime.block_on(talk(connections, REQUESTS));
            persistent.add(kind, cpu(CONNECTIONS * REQUESTS, before));
            drop(connections);

            runtime.block_on(talk_afresh(server.address, FRESH / 10));
            let before = cpu_nanos(&family);
            runtime.block_on(talk_afresh(server.address, FRESH));
            fresh.add(kind, cpu(FRESH, before));
            server.stop();
        }
    }

    println!("server CPU per request, {CONNECTIONS} connections, {WORKERS} workers");
    for (what, samples) in [("persistent", &persistent), ("fresh", &fresh)] {
        for kind in KINDS {
            println!("  {what:<10} {kind:<18} {:7.2} µs", samples.median(kind));
        }
    }
    for kind in [THREADS, PROCESSES] {
        bounds.check(
            &format!("{kind}, persistent / {BARE}"),
            persistent.ratio(kind, BARE),
            1.03,
        );
        bounds.check(
            &format!("{kind}, persistent / {ACTIX}"),
            persistent.ratio(kind, ACTIX),
            1.0,
        );
        bounds.check(
            &format!("{kind}, fresh / {ACTIX}"),
            fresh.ratio(kind, ACTIX),
            0.85,
        );
    }
    bounds.tell(
        &format!("{BARE_PROCESSES}, persistent / {BARE}"),
        persistent.ratio(BARE_PROCESSES, BARE),
    );
    bounds.tell(
        &format!("{PROCESSES}, persistent / {BARE_PROCESSES}"),
        persistent.ratio(PROCESSES, BARE_PROCESSES),
    );
    for (kind, bare) in [(THREADS, BARE), (PROCESSES, BARE_PROCESSES)] {
        bounds.tell(&format!("{kind}, fresh / {bare}"), fresh.ratio(kind, bare));
    }
}

fn lifecycles(rounds: usize, bounds: &mut Bounds) {
    println!("start to all ready, and SIGTERM to exit");
    for workers in [1, 4, 8] {
        for pair in [[BARE_PROCESSES, PROCESSES], [BARE, THREADS]] {
            let mut starts = Samples::default();
            let mut stops = Samples::default();
            for round in 0..rounds {
                for place in 0..2 {
                    let kind = pair[(round + place) % 2];
                    let server = Running::start(kind, workers, 0);
                    starts.add(kind, millis(server.start));
                    stops.add(kind, millis(server.stop()));
                }
            }
            let [bare, aioxide] = pair;
            let (start, bare_start) = (starts.median(aioxide), starts.median(bare));
            let (stop, bare_stop) = (stops.median(aioxide), stops.median(bare));
            println!(
                "  {workers} {bare:<15} start {bare_start:6.2} ms  stop {bare_stop:6.2} ms\n  \
                 {workers} {aioxide:<15} start {start:6.2} ms  stop {stop:6.2} ms"
            );
            bounds.check(
                &format!("{aioxide}, {workers}: start, ms"),
                start,
                1.5 * bare_start + 2.0,
            );
            bounds.check(
                &format!("{aioxide}, {workers}: stop, ms"),
                stop,
                bare_stop + 5.0,
            );
        }
    }
}

fn memory(bounds: &mut Bounds) {
    println!("Private_Dirty of a worker process");
    for (kind, ballast) in [(BARE_PROCESSES, 0), (PROCESSES, 0), (PROCESSES, 1024)] {
        let server = Running::start(kind, WORKERS, ballast);
        let workers = &server.family()[1..];
        assert_eq!(workers.len(), WORKERS);
        let most = workers.iter().map(|pid| private_dirty(*pid)).max();
        let most = most.expect("a worker") as f64;
        let start = millis(server.start);
        server.stop();
        match kind {
            PROCESSES => bounds.check(
                &format!("{kind}, supervisor holds {ballast} MiB (ready after {start:.0} ms): KiB"),
                most,
                1024.0,
            ),
            _ => bounds.tell(&format!("{kind}: KiB"), most),
        }
    }
}

struct Bounds {
    kept: bool,
}

impl Bounds {
    fn check(&mut self, what: &str, figure: f64, bound: f64) {
        let verdict = if figure <= bound { "ok" } else { "OVER" };
        self.kept &= figure <= bound;
        println!("  {what:<60} {figure:8.3}  at most {bound:8.3}  {verdict}");
    }

    fn tell(&self, what: &str, figure: f64) {
        println!("  {what:<60} {figure:8.3}");
    }
}

/// What each kind of server took, round by round.
#[derive(Default)]
struct Samples(BTreeMap<&'static str, Vec<f64>>);

impl Samples {
    fn add(&mut self, kind: &'static str, sample: f64) {
        self.0.entry(kind).or_default().push(sample);
    }

    fn median(&self, kind: &str) -> f64 {
        median(self.0[kind].clone())
    }

    fn ratio(&self, kind: &str, other: &str) -> f64 {
        let pairs = self.0[kind].iter().zip(&self.0[other]);
        median(pairs.map(|(kind, other)| kind / other).collect())
    }
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
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
fn private_dirty(pid: u32) -> u64 {
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

/// So many requests, each on a connection of its own.
async fn talk_afresh(address: SocketAddr, requests: usize) {
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        clients.spawn(async move {
            for _ in 0..requests / CONNECTIONS {
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
