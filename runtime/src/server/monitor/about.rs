//! What is known of a server before it runs.

use serde::Serialize;

use crate::server::Isolation;

#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) isolation: Isolation,
    pub(crate) options: Options,
}

/// Times are in seconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Options {
    pub(crate) shutdown_timeout: f64,
    pub(crate) start_timeout: f64,
    pub(crate) on_failure: String,
    pub(crate) max_restarts: u32,
    pub(crate) restart_window: f64,
    pub(crate) hang_timeout: Option<f64>,
}
