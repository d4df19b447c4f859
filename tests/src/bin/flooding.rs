//! A server of which worker 0, when SIGUSR1 comes, tells the supervisor something again and again, without end.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use aioxide::{Worker, server};
use aioxide_tests::fixture;
use clap::{Parser, ValueEnum};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use serde_json::json;
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    #[arg(long, value_enum)]
    says: Says,
    /// How many tasks say `requests`.
    #[arg(long, default_value_t = 1000)]
    tasks: usize,
    /// Where the door is.
    #[arg(long)]
    monitor: Option<String>,
}

/// What it tells.
#[derive(Clone, Copy, ValueEnum)]
enum Says {
    Ready,
    Pong,
    Signalled,
    Blocked,
    Accepted,
    /// A long line for the log.
    Reported,
    /// That it has one more accept loop.
    Accepts,
    TakesTurns,
    /// That it wants a timer of one more name to be its own.
    Single,
    /// That it wants to listen on what has a long name.
    Listen,
    /// That it wants to give up a socket with a long name, which it hasn't got.
    Unlisten,
    /// As `Unlisten`, by the handle: from many tasks at once.
    Requests,
}

/// A third of what a frame takes: what Linux puts into a Unix socket in one piece.
const LONG: usize = 20_000;

/// The `number`th message as the control socket carries it: its length, and itself in MessagePack.
fn frame(says: Says, number: u64) -> io::Result<Vec<u8>> {
    let long = || "x".repeat(LONG);
    let message = match says {
        Says::Ready => json!("Ready"),
        Says::Pong => json!({"Pong": 7}),
        Says::Signalled => json!({"Signalled": 15}),
        Says::Blocked => json!({"Blocked": number.is_multiple_of(2)}),
        Says::Accepted => json!({"Accepted": number}),
        Says::Reported => json!({"Reported": long()}),
        Says::Accepts => json!({"Accepts": {"serving": number, "socket": number}}),
        Says::TakesTurns => json!({"TakesTurns": {"serving": number, "socket": number}}),
        Says::Single => {
            let name = format!("{}{number}", "x".repeat(1000));
            let call = json!({"Hold": {"name": name, "owner": "fixture"}});
            json!({"Single": {"request": number, "call": call}})
        }
        Says::Listen => {
            let wanted = json!({"Tcp": {"text": long(), "addresses": [], "all": false}});
            json!({"Listen": {"request": number, "wanted": wanted}})
        }
        Says::Unlisten | Says::Requests => {
            json!({"Unlisten": {"request": number, "text": long()}})
        }
    };
    let message = rmp_serde::to_vec_named(&message).map_err(io::Error::other)?;
    Ok([&(message.len() as u32).to_le_bytes()[..], &message].concat())
}

/// The socket that this worker was started with: the one whose inode its role names.
fn control_socket() -> io::Result<OwnedFd> {
    let role = std::env::var("AIOXIDE_WORKER").map_err(io::Error::other)?;
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        let Ok(link) = fs::read_link(&path) else {
            continue;
        };
        let is_ours = |inode: &str| link.to_str() == Some(&format!("socket:[{inode}]"));
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        if let (true, Some(number)) = (role.split(':').any(is_ours), number) {
            return Ok(pidfd_getfd(&own, number, PidfdGetfdFlags::empty())?);
        }
    }
    Err(io::Error::other("no control socket"))
}

/// What is said again and again.
fn frames(says: Says) -> io::Result<Vec<Vec<u8>>> {
    let count = match says {
        Says::Reported | Says::Listen | Says::Unlisten | Says::Requests => 16,
        _ => 10_000,
    };
    (0..count).map(|number| frame(says, number)).collect()
}

/// Returns only when nobody takes it any more.
fn flood(frames: &[Vec<u8>]) -> io::Result<()> {
    let socket = control_socket()?;
    for frame in frames.iter().cycle() {
        // The socket takes it as a whole or not at all, so that nothing that the worker itself says comes amid it.
        while let Err(error) = rustix::io::write(&socket, frame) {
            match error {
                Errno::AGAIN => poll(&mut [PollFd::new(&socket, PollFlags::OUT)], None)?,
                error => return Err(error.into()),
            };
        }
    }
    Ok(())
}

#[server]
async fn flooding(worker: Worker, options: Options) -> io::Result<()> {
    let (index, generation) = (worker.index(), worker.generation());
    info!(
        worker = index,
        generation,
        pid = std::process::id(),
        "set up"
    );
    // Made before, so that they come as fast as they can.
    let mut frames = tokio::task::spawn_blocking(move || frames(options.says)).await??;
    let mut floods = false;
    let mut reloads = worker.reloads();
    let mut ready = std::pin::pin!(yield_());
    let stop = loop {
        tokio::select! {
            stop = &mut ready => break stop,
            Some(()) = reloads.recv() => if (index, generation) != (0, 0) || floods {
                info!(worker = index, "reloaded");
            } else {
                floods = true;
                info!("floods");
                match options.says {
                    Says::Requests => for _ in 0..options.tasks {
                        let worker = worker.clone();
                        worker.clone().tasks().spawn_local(async move {
                            loop {
                                let _ = worker.unlisten("127.0.0.1:1").await;
                            }
                        });
                    },
                    // Beside the event loop, which would be told as blocked amid a frame of the flood.
                    _ => {
                        let frames = std::mem::take(&mut frames);
                        tokio::task::spawn_blocking(move || flood(&frames)).await??;
                    }
                }
            },
        }
    };
    info!(worker = index, generation, "torn down: {stop}");
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    fixture::log();
    let mut server = options.server.clone().apply(flooding(options.clone()));
    if let Some(path) = options.monitor {
        server = server.monitor(path);
    }
    server.run()
}
