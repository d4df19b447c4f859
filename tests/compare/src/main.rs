//! aioxide side by side with its peers: the same work on all of them in turns, as a page and a plot.
//!
//! `cargo run --release -p aioxide-compare`; `-- --help` lists what it can be told.

mod failures;
mod kinds;
mod load;
mod machine;
mod measure;
mod page;
mod plot;
mod processes;
mod python;
mod running;
mod serve;
mod stats;
mod table;
mod timers;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::load::{Load, Protocol};
use crate::measure::{Part, Plan};
use crate::page::Page;
use crate::python::Python;
use crate::serve::{Serve, runtime};
use crate::timers::Timers;

/// Compares aioxide with its peers, and writes comparison.md and comparison.svg.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compare: Compare,
}

#[derive(Subcommand)]
enum Command {
    /// Puts a server that echoes under load, and tells in JSON what became of it.
    Load(LoadArgs),
    /// Echoes.
    #[command(hide = true)]
    Serve(Serve),
    /// Runs timers.
    #[command(hide = true)]
    Timers(Timers),
}

#[derive(Args)]
struct Compare {
    /// What to compare; everything unless told otherwise.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// How often each is measured; timers, restarts and memory half as often.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How long a server is under load in a round; timers run, and restarts take, four times as long.
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    seconds: Duration,
    /// The folder to write to; `compare` in the target folder unless told otherwise.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Leaves all that runs on Python out.
    #[arg(long)]
    without_python: bool,
    /// Fails when a bound is exceeded.
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
struct LoadArgs {
    address: SocketAddr,
    /// By HTTP/1.1, as a query that comes back.
    #[arg(long)]
    http: bool,
    /// A connection for each request.
    #[arg(long)]
    fresh: bool,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// In seconds, for a connection and for a request.
    #[arg(long, default_value = "10", value_parser = seconds)]
    timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "a number of seconds above 0 is expected".to_owned())
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Load(args)) => args.run(),
        Some(Command::Serve(serve)) => serve.run(),
        Some(Command::Timers(timers)) => timers.run().map(|()| ExitCode::SUCCESS),
        None => cli.compare.run(),
    }
}

impl LoadArgs {
    fn run(self) -> Result<ExitCode> {
        let protocol = match self.http {
            true => Protocol::Http,
            false => Protocol::Bytes,
        };
        let load = Load {
            connections: self.connections,
            fresh: self.fresh,
            timeout: self.timeout,
            ..Load::new(self.address, protocol)
        };
        let outcome = runtime()?.block_on(load.clients().run(self.seconds))?;
        writeln!(io::stdout(), "{}", outcome.json()?)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Compare {
    fn run(self) -> Result<ExitCode> {
        leave_none_behind()?;
        let started = Instant::now();
        let program = env::current_exe()?;
        let beside = program.parent().and_then(|profile| profile.parent());
        let target = beside
            .context("this program isn't in a target folder")?
            .join("compare");
        let python = match self.without_python {
            true => None,
            false => Some(Python::set_up(&target.join("python"))?),
        };
        let machine = machine::description(python.as_ref())?;
        let plan = Plan {
            rounds: usize::from(self.rounds),
            time: self.seconds,
            python,
        };

        let mut tables = Vec::new();
        for part in Part::value_variants() {
            if self.only.is_empty() || self.only.contains(part) {
                let name = part.to_possible_value().context("each has a name")?;
                let start = Instant::now();
                tables.extend(
                    part.measure(&plan)
                        .with_context(|| name.get_name().to_owned())?,
                );
                eprintln!("{}: {:.0?}", name.get_name(), start.elapsed());
            }
        }

        let args: Vec<String> = env::args().skip(1).collect();
        let args = if args.is_empty() {
            args
        } else {
            [vec!["--".to_owned()], args].concat()
        };
        let page = Page {
            command: ["cargo run --release -p aioxide-compare".to_owned()]
                .into_iter()
                .chain(args)
                .collect::<Vec<_>>()
                .join(" "),
            took: started.elapsed(),
            rounds: plan.rounds,
            machine: &machine,
            tables: &tables,
        };
        let out = self.out.unwrap_or(target);
        let write = |name: &str, text: String| {
            let path = out.join(name);
            fs::create_dir_all(&out)
                .and_then(|()| fs::write(&path, text))
                .with_context(|| format!("{} can't be written", path.display()))?;
            eprintln!("{}", path.display());
            anyhow::Ok(())
        };
        write("comparison.md", page.markdown())?;
        write("comparison.svg", plot::svg(&tables)?)?;
        match self.check && !tables.iter().all(table::Table::kept) {
            true => Ok(ExitCode::FAILURE),
            false => Ok(ExitCode::SUCCESS),
        }
    }
}

/// No server outlives a comparison that is interrupted.
fn leave_none_behind() -> Result<()> {
    let runtime = runtime()?;
    let (mut interrupt, mut terminate) = {
        let _in_it = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    thread::spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        processes::kill(process::id(), false);
        process::exit(code)
    });
    Ok(())
}
