//! What the server tells: failures never hide, and no log can hurt the server.

use std::fmt;
use std::io::Write;
#[cfg(feature = "process")]
use std::sync::mpsc;
#[cfg(feature = "process")]
use std::time::Duration;

/// `log!(warn, "…")` is `tracing::warn!("…")` of the target `aioxide::server`, whatever becomes of the log.
macro_rules! log {
    ($level:ident, $($event:tt)*) => {
        $crate::panic::guarded(|| ::tracing::$level!(target: "aioxide::server", $($event)*))
    };
}
pub(crate) use log;

/// `failed!({ pid, cause = %cause }, "…")` logs an error with these fields. A server without a tracing subscriber
/// still says why it ended.
macro_rules! failed {
    ({ $($fields:tt)* }, $($message:tt)+) => {
        if ::tracing::dispatcher::has_been_set() {
            $crate::panic::guarded(|| {
                ::tracing::error!(target: "aioxide::server", { $($fields)* }, $($message)+)
            });
        } else {
            $crate::server::report::to_stderr(format_args!($($message)+));
        }
    };
}
pub(crate) use failed;

/// As `failed!`, without fields.
pub(crate) fn failure(message: fmt::Arguments<'_>) {
    if tracing::dispatcher::has_been_set() {
        log!(error, "{message}");
    } else {
        to_stderr(message);
    }
}

pub(crate) fn to_stderr(message: fmt::Arguments<'_>) {
    // `eprintln!` would panic on a closed stderr.
    let _ = writeln!(std::io::stderr(), "aioxide: {message}");
}

/// As [`failure`], where nothing may be held up for longer than `limit` by a log that doesn't take its line.
#[cfg(feature = "process")]
pub(crate) fn failure_within(limit: Duration, message: String) {
    let (done, told) = mpsc::channel::<()>();
    let telling = std::thread::Builder::new()
        .name("report".to_owned())
        .spawn(move || {
            failure(format_args!("{message}"));
            drop(done);
        });
    // Without a thread there is no way to say it within a limit.
    if telling.is_ok() {
        let _ = told.recv_timeout(limit);
    }
}
