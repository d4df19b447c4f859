//! A server whose workers log lines, and that ends once they have, unless told otherwise.

use std::io::{self, Write};
use std::process::{self, ExitCode};

use aioxide::{Isolation, Worker, logging, server};
use clap::Parser;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt, registry};

#[derive(Clone, Parser)]
struct Cli {
    isolation: Isolation,
    /// How many each worker logs.
    #[arg(long, default_value_t = 1)]
    lines: u64,
    /// Then each worker writes a line to stdout, and waits to be stopped.
    #[arg(long)]
    stay: bool,
    /// Has the workers not stop.
    #[arg(long)]
    stubborn: bool,
    /// Then the process ends, with this code.
    #[arg(long)]
    exit: Option<i32>,
    /// Logs by a subscriber of the program's own.
    #[arg(long)]
    own: bool,
}

#[server(workers = 2)]
async fn logged(_worker: Worker, cli: Cli) -> io::Result<()> {
    for number in 0..cli.lines {
        tracing::info!(number, "hello");
    }
    if let Some(code) = cli.exit {
        process::exit(code);
    }
    if cli.stay {
        writeln!(io::stdout(), "done")?;
    }
    let _stop = yield_().await;
    if cli.stubborn {
        std::future::pending::<()>().await;
    }
    Ok(())
}

fn own() {
    let lines = fmt::layer().json().with_writer(logging::stderr);
    registry()
        .with(lines)
        .with(logging::layer())
        .with(EnvFilter::from_default_env())
        .init();
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = logged(cli.clone())
        .isolation(cli.isolation)
        .run_to_completion(!cli.stay)
        .init(if cli.own { own } else { logging::init })
        .run();
    tracing::info!("bye");
    code
}
