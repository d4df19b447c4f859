//! Failures never hide: they are logged, and go to stderr when nobody listens to the log. And a log that can't
//! be written never ends a supervisor.

use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Logs on a thread that must outlive what a subscriber does: `log!(info, "{name} is ready")`.
macro_rules! log {
    ($level:ident, $($event:tt)*) => {
        $crate::server::report::survive(|| tracing::$level!(target: "aioxide::server", $($event)*))
    };
}
pub(crate) use log;

/// `tracing-subscriber` writes its own errors by `eprintln!`, which panics when the terminal is gone.
pub(crate) fn survive(log: impl FnOnce()) {
    // The panic hook has had its say, and there is nowhere left to say more.
    let _ = catch_unwind(AssertUnwindSafe(log));
}

/// Logs an error. A server without a tracing subscriber still says why it ended.
pub(crate) fn failure(message: fmt::Arguments<'_>) {
    if tracing::dispatcher::has_been_set() {
        log!(error, "{message}");
    } else {
        // `eprintln!` would panic on a closed stderr, and there is nowhere left to say so.
        let _ = writeln!(std::io::stderr(), "aioxide: {message}");
    }
}
