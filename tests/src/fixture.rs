//! What the fixture servers have in common: their log, and the options of every server.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aioxide::{Isolation, OnFailure, Recycle, Server, Signal};
use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::ADDRESS;

/// Where a server listens, unless it is told otherwise: port 0 of an address that no other server under test has.
pub fn address() -> SocketAddr {
    let given = std::env::var(ADDRESS).ok();
    let ip = given.map_or(Ipv4Addr::LOCALHOST, |ip| ip.parse().expect("an address"));
    SocketAddr::new(ip.into(), 0)
}

/// A server's options on the command line; times are in milliseconds.
#[derive(Clone, Args)]
#[allow(missing_docs)]
pub struct ServerOptions {
    #[arg(long, default_value_t)]
    pub isolation: Isolation,
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    #[arg(long, default_value_t)]
    pub on_failure: OnFailure,
    #[arg(long, default_value_t = 10)]
    pub max_restarts: u32,
    #[arg(long, default_value_t = 60_000)]
    pub restart_window: u64,
    #[arg(long, default_value_t = 20_000)]
    pub shutdown_timeout: u64,
    #[arg(long, default_value_t = 0)]
    pub drain_delay: u64,
    #[arg(long, default_value_t = 20_000)]
    pub start_timeout: u64,
    #[arg(long)]
    pub hang_timeout: Option<u64>,
    #[arg(long)]
    pub share_port: bool,
    #[arg(long)]
    pub max_connections: Option<usize>,
    /// Have thread workers hand connections to each other.
    #[arg(long)]
    pub balance: bool,
    /// Of a worker's time, in milliseconds.
    #[arg(long)]
    pub recycle_after: Option<u64>,
    #[arg(long)]
    pub recycle_connections: Option<u64>,
    /// In bytes.
    #[arg(long)]
    pub recycle_memory: Option<u64>,
    /// Without `SIG`, and instead of those that do by default.
    #[arg(long, value_parser = signal_of_name)]
    pub stop_signal: Option<Signal>,
}

impl ServerOptions {
    /// The server with these options.
    pub fn apply(&self, server: Server) -> Server {
        let server = server
            .isolation(self.isolation)
            .workers(self.workers)
            .on_failure(self.on_failure)
            .max_restarts(self.max_restarts)
            .share_port(self.share_port)
            .balance(self.balance)
            .restart_window(Duration::from_millis(self.restart_window))
            .shutdown_timeout(match self.shutdown_timeout {
                u64::MAX => Duration::MAX,
                millis => Duration::from_millis(millis),
            })
            .drain_delay(Duration::from_millis(self.drain_delay))
            .start_timeout(Duration::from_millis(self.start_timeout));
        let server = match self.hang_timeout {
            Some(timeout) => server.hang_timeout(Duration::from_millis(timeout)),
            None => server,
        };
        let server = match self.max_connections {
            Some(connections) => server.max_connections(connections),
            None => server,
        };
        let after = self.recycle_after.map(Duration::from_millis);
        let limits = [
            after.map(Recycle::after),
            self.recycle_connections.map(Recycle::after_connections),
            self.recycle_memory.map(Recycle::over),
        ];
        let server = server.recycle(limits.into_iter().flatten());
        match self.stop_signal {
            Some(signal) => server.stop_signals([signal]),
            None => server,
        }
    }
}

fn signal_of_name(name: &str) -> Result<Signal, String> {
    let known = [Signal::SIGQUIT, Signal::SIGUSR2, Signal::SIGALRM];
    let found = known
        .into_iter()
        .find(|signal| signal.to_string() == format!("SIG{name}"));
    found.ok_or_else(|| format!("`{name}` is none of {known:?}"))
}

/// Logs to stderr, as `RUST_LOG` says. With `AIOXIDE_FAULT=no-log` in the environment nothing is there that logs.
pub fn log() {
    if std::env::var("AIOXIDE_FAULT").is_ok_and(|fault| fault == "no-log") {
        return;
    }
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
