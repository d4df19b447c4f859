//! The servers that are this program.

mod bare;
mod echo;
mod http;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use aioxide::{Isolation, Server};
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
}

impl Serve {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let workers = self.workers;
        let server = match self.kind {
            Kind::AioxideThreads | Kind::AioxideProcesses => echo::aioxide(address, self.ballast),
            Kind::HttpThreads | Kind::HttpProcesses => http::aioxide(address),
            Kind::HttpAxumThreads => http::axum_in_aioxide(address),
            Kind::BareThreads => return done(bare::on_threads(address, workers, echo::accept)),
            Kind::BareProcesses => return done(echo::bare_processes(address, workers)),
            Kind::BareProcess => return done(echo::bare_process(address)),
            Kind::Actix => return done(echo::actix(address, workers)),
            Kind::HyperThreads => return done(bare::on_threads(address, workers, http::accept)),
            Kind::Axum => return done(http::axum(address, workers)),
            Kind::ActixWeb => return done(http::actix_web(address, workers)),
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
        server.workers(self.workers).balance(self.balance).run()
    }
}

fn done(served: io::Result<()>) -> Result<ExitCode> {
    served?;
    Ok(ExitCode::SUCCESS)
}
