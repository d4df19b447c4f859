//! Resources that are chosen at run time, of different types, undone in the opposite order.
//!
//! ```text
//! cargo run --release -p aioxide-examples --bin stack -- folder listener child
//! ```
//!
//! With `--program /no/such/program` the child process can't be started: what was set up before it is undone.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use aioxide::{ExitStack, actxmgr};
use clap::{Parser, ValueEnum};
use tokio::net::TcpListener;
use tokio::process::Command;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Sets up what it is told to, and undoes it.
#[derive(Parser)]
struct Options {
    /// What to set up, in this order.
    #[arg(value_enum)]
    resources: Vec<Resource>,
    /// What the child process runs: a program that ends when its input does.
    #[arg(long, default_value = "cat")]
    program: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Resource {
    /// A temporary folder.
    Folder,
    /// A listening socket.
    Listener,
    /// A child process.
    Child,
}

#[actxmgr]
async fn folder(nth: usize) -> io::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("aioxide-stack-{}-{nth}", std::process::id()));
    tokio::fs::create_dir(&path).await?;
    let (path, exit) = yield_(path).await;
    tokio::fs::remove_dir_all(&path).await?;
    info!("{nth}: folder removed: {exit}");
    Ok(())
}

#[actxmgr]
async fn listener(nth: usize) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (_, exit) = yield_(address).await;
    drop(listener);
    info!("{nth}: listener closed: {exit}");
    Ok(())
}

#[actxmgr]
async fn child(nth: usize, program: String) -> io::Result<Option<u32>> {
    let mut child = Command::new(program).stdin(Stdio::piped()).spawn()?;
    let (_, exit) = yield_(child.id()).await;
    drop(child.stdin.take());
    let status = child.wait().await?;
    info!("{nth}: child ended by {status}: {exit}");
    Ok(())
}

async fn run(options: Options) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut stack = ExitStack::new();
    for (nth, resource) in options.resources.into_iter().enumerate() {
        match resource {
            Resource::Folder => {
                let path = stack.enter(folder(nth)).await?;
                info!("{nth}: made folder {}", path.display());
            }
            Resource::Listener => {
                let address = stack.enter(listener(nth)).await?;
                info!("{nth}: listening on {address}");
            }
            Resource::Child => {
                let id = stack.enter(child(nth, options.program.clone())).await?;
                info!("{nth}: started child {}", id.unwrap_or_default());
            }
        }
    }
    stack.defer(async { info!("all is still there") });
    stack.exit().await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let level = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(io::stderr)
        .init();

    let ran = run(options).await;
    // A `?` has dropped the stack: what it held is undone in the background.
    aioxide::drain(Duration::from_secs(10)).await;
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}
