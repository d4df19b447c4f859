//! A log for servers: one line on stderr for each event, with the index of the worker it came from.
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
//! `[-]` is what no worker has said: the supervisor, the main context, an extra, a thread that a worker's
//! code has started in a server of thread workers.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::util::SubscriberInitExt;

use crate::worker_index;

/// Installs the log for the whole process: to stderr, a line for each event of `tracing` or `log`.
///
/// `RUST_LOG` says which events, in the words of [`EnvFilter`]: `debug`, `info,my_crate=trace`. Unset or
/// empty it is `info`; one that can't be understood counts as `info` too, and the log says so. Lines are
/// coloured on a terminal, unless `NO_COLOR` is set.
///
/// Meant for `init = aioxide::logging::init` in [`#[server]`](macro@crate::server), which calls it once in
/// every process. Where a subscriber is installed already, that one stays and this call does nothing.
///
/// A line that can't be written, because stderr is closed or its disk is full, is lost, and nothing else
/// happens. A line is one `write` on an unbuffered stderr: it waits when stderr is a pipe that nobody empties.
pub fn init() {
    let (filter, mistake) = filter(std::env::var("RUST_LOG").ok().as_deref());
    let colours = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(TimeAndWorker)
        .with_ansi(colours)
        .with_writer(|| Lossy(io::stderr()))
        // It would be told by `eprintln!`, which panics when stderr is gone.
        .log_internal_errors(false)
        .finish();
    // An error says that a subscriber, or a logger of `log`, is there already. Both may stay.
    if subscriber.try_init().is_ok() {
        if let Some(mistake) = mistake {
            tracing::warn!("RUST_LOG is not understood and taken for `info`: {mistake}");
        }
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

/// Claims to have written what it couldn't.
struct Lossy<W>(W);

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What is left of the line after an error would only be half of one.
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
    fn a_failed_write_is_lost_without_a_word() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        let mut lossy = Lossy(Full);
        assert!(lossy.write_all(b"a line\n").is_ok());
        assert!(lossy.flush().is_ok());
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
}
