//! The servers that are this program.

mod bare;
mod echo;
mod http;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use aioxide::{Isolation, OnFailure, Server};
use anyhow::Result;
use clap::{Args, ValueEnum};

pub(crate) use bare::{READY, runtime};
#[cfg(test)]
pub(crate) use echo::echo;

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    AioxideThreads,
    AioxideProcesses,
    BareThreads,
    BareProcesses,
    /// One of the processes of `bare-processes`; the other end of its stdin tells it to stop.
    BareProcess,
    Actix,
    HttpThreads,
    HttpProcesses,
    /// With axum's own loop in aioxide's workers.
    HttpAxumThreads,
    HyperThreads,
    Axum,
    ActixWeb,
}

#[derive(Args)]
pub(crate) struct Serve {
    kind: Kind,
    port: u16,
    workers: usize,
    /// MiB that the supervisor holds, in `aioxide-..`.
    #[arg(long, default_value_t = 0)]
    ballast: usize,
    /// Has connections handed to the worker with the fewest, in aioxide's.
    #[arg(long)]
    balance: bool,
    /// Where the door of aioxide's monitor is.
    #[arg(long)]
    monitor: Option<PathBuf>,
    /// Where aioxide's health checks are answered, and its metrics told.
    #[arg(long)]
    health: Option<SocketAddr>,
    /// How many connections a worker has at most, where HTTP is served by workers.
    #[arg(long)]
    max_connections: Option<usize>,
    /// One of the workers crashes again and again, where HTTP is served by workers.
    #[arg(long)]
    crash_loop: bool,
}

/// Of many: none fails the server.
const RESTARTS: u32 = 1000;

impl Serve {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let workers = self.workers;
        let server = match self.kind {
            Kind::AioxideThreads | Kind::AioxideProcesses => echo::aioxide(address, self.ballast),
            Kind::HttpThreads | Kind::HttpProcesses => http::aioxide(address, self.crash_loop),
            Kind::HttpAxumThreads => http::axum_in_aioxide(address),
            Kind::BareThreads => {
                return done(bare::on_threads(address, workers, false, echo::accept));
            }
            Kind::BareProcesses => return done(echo::bare_processes(address, workers)),
            Kind::BareProcess => return done(echo::bare_process(address)),
            Kind::Actix => return done(echo::actix(address, workers)),
            Kind::HyperThreads => {
                let max = self.max_connections;
                let accept = move |listener| http::accept(listener, max);
                return done(bare::on_threads(address, workers, self.crash_loop, accept));
            }
            Kind::Axum => return done(http::axum(address, workers)),
            Kind::ActixWeb => {
                let max = self.max_connections;
                return done(http::actix_web(address, workers, max, self.crash_loop));
            }
        };
        let isolation = match self.kind {
            Kind::AioxideProcesses | Kind::HttpProcesses => Isolation::Process,
            _ => Isolation::Thread,
        };
        Ok(self.run_aioxide(server.isolation(isolation)))
    }

    fn run_aioxide(&self, server: Server) -> ExitCode {
        tracing_subscriber::fmt()
            .with_writer(io::stdout)
            .with_ansi(false)
            .init();
        let mut server = server.workers(self.workers).balance(self.balance);
        if let Some(path) = &self.monitor {
            server = server.monitor(path.as_path());
        }
        if let Some(address) = self.health {
            server = server.health(address.to_string());
        }
        if let Some(max) = self.max_connections {
            server = server.max_connections(max);
        }
        if self.crash_loop {
            server = server.on_failure(OnFailure::Restart).max_restarts(RESTARTS);
        }
        server.run()
    }
}

fn done(served: io::Result<()>) -> Result<ExitCode> {
    served?;
    Ok(ExitCode::SUCCESS)
}
