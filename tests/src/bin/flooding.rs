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
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    #[arg(long, value_enum)]
    says: Says,
}

/// What it tells.
#[derive(Clone, Copy, ValueEnum)]
enum Says {
    Ready,
    Pong,
    Signalled,
    /// A line for the log, as long as a frame takes.
    Reported,
    /// That it wants to give up a socket with a name as long as a frame takes, which it hasn't got.
    Unlisten,
    /// As `Unlisten`, by the handle: from a thousand tasks at once.
    Requests,
}

/// A message as the control socket carries it: its length, and itself in MessagePack.
fn frame(says: Says) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = match u8::try_from(text.len()) {
            Ok(length @ ..32) => vec![0xa0 | length],
            _ => [&[0xda][..], &(text.len() as u16).to_be_bytes()].concat(),
        };
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    let long = "x".repeat(60_000);
    let map = |name: &str, value: Vec<u8>| [vec![0x81], text(name), value].concat();
    let message = match says {
        Says::Ready => text("Ready"),
        Says::Pong => map("Pong", vec![7]),
        Says::Signalled => map("Signalled", vec![15]),
        Says::Reported => map("Reported", text(&long)),
        Says::Unlisten | Says::Requests => {
            let fields = [
                vec![0x82],
                text("request"),
                vec![1],
                text("text"),
                text(&long),
            ];
            map("Unlisten", fields.concat())
        }
    };
    [(message.len() as u32).to_le_bytes().to_vec(), message].concat()
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

/// Returns only when nobody takes it any more.
fn flood(says: Says) -> io::Result<()> {
    let socket = control_socket()?;
    let frame = frame(says);
    let frames = frame.repeat((64 * 1024 / frame.len()).max(1));
    loop {
        let mut rest = &frames[..];
        while !rest.is_empty() {
            match rustix::io::write(&socket, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&socket, PollFlags::OUT)], None)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
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
    let mut reloads = worker.reloads();
    let mut ready = std::pin::pin!(yield_());
    let stop = loop {
        tokio::select! {
            stop = &mut ready => break stop,
            Some(()) = reloads.recv() => if (index, generation) == (0, 0) {
                info!("floods");
                match options.says {
                    Says::Requests => for _ in 0..1000 {
                        let worker = worker.clone();
                        worker.clone().tasks().spawn_local(async move {
                            loop {
                                let _ = worker.unlisten("127.0.0.1:1").await;
                            }
                        });
                    },
                    // Beside the event loop, which would be told as blocked amid a frame of the flood.
                    says => tokio::task::spawn_blocking(move || flood(says)).await??,
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
    options.server.clone().apply(flooding(options)).run()
}
