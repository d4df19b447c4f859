//! The options as they were typed.

use proc_macro2::TokenStream;

use crate::errors::Errors;
use crate::options::{Known, Options};

const KNOWN: &[Known] = &[
    Known::value("workers", "4"),
    Known::value("isolation", "process"),
    Known::value("main", "path"),
    Known::value("extra", "[path]"),
    Known::value("init", "path"),
    Known::value("on_ready", "path"),
    Known::value("stop_signals", "[SIGINT, SIGTERM]"),
    Known::value("shutdown_timeout", "25s"),
    Known::value("drain_delay", "5s"),
    Known::value("start_timeout", "60s"),
    Known::value("on_failure", "restart"),
    Known::value("max_restarts", "10"),
    Known::value("restart_window", "60s"),
    Known::value("hang_timeout", "30s"),
    Known::value("roll_overlap", "2"),
    Known::either("monitor", "\"path\""),
    Known::value("health", "\"0.0.0.0:9090\""),
    Known::value("max_connections", "10_000"),
    Known::flag("balance"),
    Known::value("recycle", "after(1h)"),
    Known::value("upgrade", "new_pid"),
    Known::value("upgrade_signal", "none"),
    Known::flag("share_port"),
    Known::flag("run_to_completion"),
    Known::value("crate", "path"),
];

pub(crate) struct Args {
    pub(crate) options: Options,
    pub(crate) sound: bool,
}

impl Args {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Args {
        let before = errors.len();
        let options = Options::parse("server", tokens, false, KNOWN, errors);
        Args {
            options,
            sound: errors.len() == before,
        }
    }
}
