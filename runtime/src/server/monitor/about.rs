//! What is known of a server before it runs.

use serde::Serialize;

use crate::server::Isolation;

#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) isolation: Isolation,
    pub(crate) options: Options,
}

/// Times are in seconds, and what is `None` is off.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Options {
    pub(crate) stop_signals: Vec<String>,
    pub(crate) shutdown_timeout: f64,
    pub(crate) drain_delay: f64,
    pub(crate) start_timeout: f64,
    pub(crate) on_failure: String,
    pub(crate) max_restarts: u32,
    pub(crate) restart_window: f64,
    pub(crate) hang_timeout: Option<f64>,
    /// Of workers; `None` for all at once.
    pub(crate) roll_overlap: Option<usize>,
    pub(crate) max_connections: Option<usize>,
    pub(crate) balance: bool,
    pub(crate) share_port: bool,
    pub(crate) recycle: Recycling,
    pub(crate) upgrade: String,
    pub(crate) upgrade_signal: Option<String>,
    pub(crate) health: Option<String>,
}

/// When workers are replaced although nothing is wrong with them.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Recycling {
    pub(crate) after: Option<f64>,
    pub(crate) connections: Option<u64>,
    /// In bytes.
    pub(crate) memory: Option<u64>,
}
