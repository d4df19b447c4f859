//! A log for servers: each line says which worker it came from, and none waits for stderr.
//!
//! ```no_run
//! use aioxide::{Worker, server};
//!
//! #[server(workers = 2, init = aioxide::logging::init)]
//! async fn main(worker: Worker) {
//!     tracing::info!("hello");
//!     let stop = yield_().await;
//!     tracing::info!("stopping: {stop}");
//! }
//! ```
//!
//! ```text
//! 2026-01-01T12:00:00.000120Z [worker 0]  INFO greeter: hello
//! 2026-01-01T12:00:00.000354Z [worker 1]  INFO greeter: hello
//! 2026-01-01T12:00:00.000401Z [-]  INFO aioxide::server: 2 workers are ready
//! ```
//!
//! `[-]` marks the lines of no worker: the supervisor, the main context, an extra, a thread that the code of a
//! thread worker has started.
//!
//! With `AIOXIDE_LOG=json` in the environment each line is a JSON object, and the worker is one of its fields:
//!
//! ```text
//! {"timestamp":"2026-01-01T12:00:00.000120Z","level":"INFO","fields":{"message":"hello","worker":0},"target":"greeter"}
//! ```
//!
//! [`init`] is made of two parts that suit a subscriber of your own: [`layer`] adds the worker to any format,
//! and [`stderr`] is the writer.

#[cfg(feature = "monitor")]
mod change;
mod stderr;
mod worker_field;

use std::env;
use std::fmt;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::prelude::*;

use crate::worker_index;

#[cfg(feature = "monitor")]
pub(crate) use change::{change, check};
pub use stderr::{Stderr, flush, stderr};
pub use worker_field::{WorkerField, layer};

/// Installs the log for the whole process: a line on stderr for each event of `tracing` or `log`.
///
/// `RUST_LOG` says which events, in the words of [`EnvFilter`]: `debug`, `info,my_crate=trace`. `AIOXIDE_LOG` says in
/// which format: `text`, which is coloured on a terminal unless `NO_COLOR` is set, or `json`. Unset or empty they are
/// `info` and `text`; so is a value that isn't understood, and the log says so.
///
/// Meant for `init = aioxide::logging::init` in [`#[server]`](macro@crate::server), which calls it once in
/// every process. If a subscriber is installed already, that one stays and this call does nothing.
///
/// Logging never waits for stderr and never fails. [`stderr`](stderr()) says what is lost if stderr doesn't take the lines,
/// and when the last lines are written.
pub fn init() {
    let (filter, no_filter) = filter(env::var("RUST_LOG").ok().as_deref());
    let (json, no_format) = is_json(env::var("AIOXIDE_LOG").ok().as_deref());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        // It would be told by `eprintln!`, which panics when stderr is gone.
        .log_internal_errors(false);
    let installed = if json {
        let subscriber = subscriber.json().with_ansi(false);
        #[cfg(feature = "monitor")]
        let subscriber = subscriber.with_filter_reloading();
        #[cfg(feature = "monitor")]
        change::keep(subscriber.reload_handle());
        subscriber.finish().with(layer()).try_init()
    } else {
        let colours = io::stderr().is_terminal()
            && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let subscriber = subscriber.with_timer(TimeAndWorker).with_ansi(colours);
        #[cfg(feature = "monitor")]
        let subscriber = subscriber.with_filter_reloading();
        #[cfg(feature = "monitor")]
        change::keep(subscriber.reload_handle());
        subscriber.finish().try_init()
    };
    // An error says that a subscriber, or a logger of `log`, is there already. Both may stay.
    if installed.is_ok() {
        // The end of this thread is most often that of the process, and writes what the others have logged.
        let _ = stderr();
        for (variable, instead, mistake) in [
            ("RUST_LOG", "info", no_filter),
            ("AIOXIDE_LOG", "text", no_format),
        ] {
            if let Some(mistake) = mistake {
                tracing::warn!("{variable} is not understood, `{instead}` is used: {mistake}");
            }
        }
    }
}

fn is_json(wanted: Option<&str>) -> (bool, Option<String>) {
    match wanted.unwrap_or_default() {
        "json" => (true, None),
        "" | "text" => (false, None),
        other => (
            false,
            Some(format!("`{other}` is neither `text` nor `json`")),
        ),
    }
}

fn filter(wanted: Option<&str>) -> (EnvFilter, Option<String>) {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    match builder.parse(wanted.unwrap_or_default()) {
        Ok(filter) => (filter, None),
        Err(mistake) => (EnvFilter::new("info"), Some(mistake.to_string())),
    }
}

/// The time, then the worker: the head of a line.
struct TimeAndWorker;

impl FormatTime for TimeAndWorker {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(line)?;
        match worker_index() {
            Some(index) => write!(line, " [worker {index}]"),
            None => line.write_str(" [-]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::server::set_thread_index;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Memory {
        type Writer = Memory;

        fn make_writer(&'a self) -> Memory {
            self.clone()
        }
    }

    #[test]
    fn a_line_names_its_worker() {
        let memory = Memory::default();
        let subscriber = tracing_subscriber::fmt()
            .with_timer(TimeAndWorker)
            .with_ansi(false)
            .with_writer(memory.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("outside");
            set_thread_index(Some(3));
            tracing::info!("inside");
        });
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("Z [-]  INFO "), "{text}");
        assert!(lines[1].contains("Z [worker 3]  INFO "), "{text}");
    }

    #[test]
    fn the_filter_is_what_rust_log_says_or_info() {
        let of = |wanted| filter(wanted).0.to_string();
        assert_eq!(of(None), "info");
        assert_eq!(of(Some("")), "info");
        assert_eq!(of(Some("warn,echo=trace")), "echo=trace,warn");
        let (fallback, mistake) = filter(Some("echo=loud"));
        assert_eq!(fallback.to_string(), "info");
        assert!(mistake.is_some());
    }

    #[test]
    fn the_format_is_what_aioxide_log_says_or_text() {
        assert_eq!(is_json(None), (false, None));
        assert_eq!(is_json(Some("")), (false, None));
        assert_eq!(is_json(Some("text")), (false, None));
        assert_eq!(is_json(Some("json")), (true, None));
        let (json, mistake) = is_json(Some("JSON"));
        assert!(!json);
        assert_eq!(mistake.unwrap(), "`JSON` is neither `text` nor `json`");
    }
}
