//! Failures never hide: they are logged, and go to stderr when nobody listens to the log.

use std::fmt;
use std::io::Write;

/// Logs an error. A server without a tracing subscriber still says why it ended.
pub(crate) fn failure(message: fmt::Arguments<'_>) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!(target: "aioxide::server", "{message}");
    } else {
        // `eprintln!` would panic on a closed stderr, and there is nowhere left to say so.
        let _ = writeln!(std::io::stderr(), "aioxide: {message}");
    }
}
