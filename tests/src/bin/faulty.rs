//! A server of which one worker goes wrong, in a given way and at a given moment of its life.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

use aioxide::{Exit, Worker, actxmgr, server, worker_index};
use aioxide_tests::fixture;
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, Signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    #[arg(long, value_enum)]
    fault: Option<Fault>,
    #[arg(long, value_enum, default_value = "ready")]
    at: Moment,
    /// Which worker goes wrong.
    #[arg(long, default_value_t = 0)]
    worker: usize,
    /// Which generations of it go wrong: this one and, with `--from-then-on`, all that follow.
    #[arg(long, default_value_t = 0)]
    generation: u64,
    #[arg(long)]
    from_then_on: bool,
    /// One that goes wrong at its start does so only when SIGUSR1 comes.
    #[arg(long)]
    when_told: bool,
    /// Wait for as long before the server is run at all, in milliseconds.
    #[arg(long, default_value_t = 0)]
    before_run: u64,
    /// What a task that is left waits for.
    #[arg(long, default_value = "/dev/null")]
    until: std::path::PathBuf,
    #[arg(skip)]
    cloned: Cloned,
}

/// Its clones go wrong where worker 0 runs, if it is so.
#[derive(Default)]
struct Cloned(Option<Fault>);

impl Clone for Cloned {
    fn clone(&self) -> Cloned {
        if let Some(fault) = self.0.filter(|_| worker_index() == Some(0)) {
            go_wrong(fault).expect("the fault leaves a worker");
        }
        Cloned(self.0)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Fault {
    Kill,
    Stop,
    Abort,
    Panic,
    Error,
    Return,
    Block,
    Descriptors,
    /// There is no room for the stack of another thread.
    Threads,
    /// It goes on, but its thread, which in a process is the main one, never ends.
    ExitHandler,
    /// It fails, and leaves a task that waits for the file `--until`.
    Task,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Moment {
    /// In the `init` of its process.
    Init,
    /// When its arguments are cloned for it.
    Cloning,
    /// Before it listens.
    Starting,
    /// When SIGUSR1 comes.
    Ready,
    /// When it has been asked to stop.
    Draining,
}

#[actxmgr]
async fn resource(worker: usize, generation: u64) {
    let exit = yield_().await;
    info!(worker, generation, "torn down: {exit}");
}

/// Hangs when it is dropped, as the thread ends.
struct Hanging;

impl Drop for Hanging {
    fn drop(&mut self) {
        info!("hangs at its end");
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}

thread_local!(static EXIT_HANDLER: Hanging = const { Hanging });

/// Returns for faults that leave the worker alive.
fn go_wrong(fault: Fault) -> Result<(), String> {
    let signal = |signal| {
        rustix::process::kill_process(rustix::process::getpid(), signal)
            .map_err(|error| error.to_string())
    };
    match fault {
        Fault::Kill => signal(Signal::KILL),
        Fault::Stop => signal(Signal::STOP),
        Fault::Abort => std::process::abort(),
        Fault::Panic => panic!("the fixture's panic"),
        Fault::Error | Fault::Task => Err("the fixture's error".to_owned()),
        Fault::Return => Ok(()),
        Fault::Block => loop {
            std::thread::park();
        },
        Fault::ExitHandler => {
            EXIT_HANDLER.with(|_| ());
            Ok(())
        }
        Fault::Threads => {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
            let pages = statm.split(' ').next().and_then(|pages| pages.parse().ok());
            let pages: u64 = pages.ok_or("the size of this process is not known")?;
            let limit = Rlimit {
                current: Some((pages + 256) * 4096),
                maximum: rustix::process::getrlimit(Resource::As).maximum,
            };
            rustix::process::setrlimit(Resource::As, limit).map_err(|error| error.to_string())
        }
        Fault::Descriptors => {
            let next = File::open("/dev/null").map_err(|error| error.to_string())?;
            set_descriptor_limit(next.as_raw_fd() as u64)
        }
    }
}

fn set_descriptor_limit(limit: u64) -> Result<(), String> {
    let limits = Rlimit {
        current: Some(limit),
        ..rustix::process::getrlimit(Resource::Nofile)
    };
    rustix::process::setrlimit(Resource::Nofile, limits).map_err(|error| error.to_string())
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut buffer = [0; 64];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(()),
            length => writer.write_all(&buffer[..length]).await?,
        }
    }
}

#[server]
async fn faulty(worker: Worker, options: Options) -> Result<(), String> {
    let generation = worker.generation();
    let concerned = worker.index() == options.worker
        && (generation == options.generation
            || options.from_then_on && generation > options.generation);
    let fault = options.fault.filter(|_| concerned);
    let at = |moment| fault.filter(|_| options.at == moment);
    let mut reloads = worker.reloads();
    let resource = resource(worker.index(), generation).await;
    info!(
        worker = worker.index(),
        generation,
        pid = std::process::id(),
        image = image_size(),
        "set up"
    );

    if let Some(fault) = at(Moment::Starting) {
        if options.when_told {
            reloads.recv().await;
        }
        go_wrong(fault)?;
    }
    let listener = worker
        .listen(fixture::address())
        .await
        .map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    info!(worker = worker.index(), generation, "listens on {address}");
    let serving = worker.serve(listener, echo);

    let mut ready = std::pin::pin!(yield_());
    let stop = loop {
        tokio::select! {
            stop = &mut ready => break stop,
            Some(()) = reloads.recv() => match at(Moment::Ready) {
                Some(Fault::Descriptors) if descriptors_are_out() => set_descriptor_limit(1024)?,
                Some(Fault::Return) => return Ok(()),
                Some(fault @ Fault::Task) => {
                    let until = options.until.clone();
                    worker.tasks().spawn_local(async move {
                        while !until.exists() {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        info!("the task that was left is done");
                    });
                    return go_wrong(fault);
                }
                Some(fault @ Fault::ExitHandler) => {
                    go_wrong(fault)?;
                    return go_wrong(Fault::Error);
                }
                Some(fault) => {
                    go_wrong(fault)?;
                    info!("went wrong");
                }
                None => {}
            },
        }
    };

    if let Some(fault) = at(Moment::Draining) {
        go_wrong(fault)?;
    }
    serving.drain(&stop).await;
    resource.exit_with(Exit::Stopped(stop)).await;
    Ok(())
}

fn descriptors_are_out() -> bool {
    File::open("/dev/null").is_err()
}

/// Tells one executable from another.
fn image_size() -> u64 {
    std::fs::metadata("/proc/self/exe").map_or(0, |found| found.len())
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    options.cloned = Cloned(options.fault.filter(|_| options.at == Moment::Cloning));
    fixture::log();
    std::thread::sleep(Duration::from_millis(options.before_run));
    let server = options.server.clone();
    let at_init = options.fault.filter(|_| options.at == Moment::Init);
    let init = move || {
        if let Some(fault) = at_init.filter(|_| worker_index() == Some(0)) {
            info!("goes wrong in init");
            go_wrong(fault).expect("the fault leaves a worker");
        }
    };
    server.apply(faulty(options)).init(init).run()
}
