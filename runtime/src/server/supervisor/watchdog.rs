//! The last resort, when the supervisor itself doesn't come to its end.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[cfg(feature = "process")]
use super::seats::child::Killer;
use crate::server::report;

/// How late the supervisor may be, a log that doesn't take its lines at once included.
const MARGIN: Duration = Duration::from_secs(2);

/// Given the exit code of a server that doesn't come to its end: ends the process, if that is the server's own.
pub(crate) type GiveUp = Arc<dyn Fn(i32) + Send + Sync>;

/// Gives the server up at the deadline it was last given, unless dropped before.
pub(crate) struct Watchdog {
    give_up: GiveUp,
    deadline: Option<Arc<Deadline>>,
}

#[derive(Default)]
struct Deadline {
    due: Mutex<Due>,
    changed: Condvar,
}

#[derive(Default)]
struct Due {
    at: Option<Instant>,
    code: i32,
    over: bool,
    /// Workers that would outlive the supervisor.
    #[cfg(feature = "process")]
    processes: Vec<Killer>,
}

impl Watchdog {
    pub(crate) fn new(give_up: GiveUp) -> Watchdog {
        Watchdog {
            give_up,
            deadline: None,
        }
    }

    /// Has these killed too, instead of those given before.
    #[cfg(feature = "process")]
    pub(in crate::server) fn guard(&mut self, processes: impl Iterator<Item = Killer>) {
        let deadline = self.deadline();
        deadline.lock().processes = processes.collect();
    }

    /// Gives up with `code` some time after `at`.
    pub(crate) fn set(&mut self, at: Instant, code: i32) {
        let deadline = self.deadline();
        let mut due = deadline.lock();
        (due.at, due.code) = (Some(at), code);
        deadline.changed.notify_one();
    }

    /// The first call starts the thread.
    fn deadline(&mut self) -> &Deadline {
        self.deadline.get_or_insert_with(|| {
            let deadline = Arc::new(Deadline::default());
            let (watched, give_up) = (Arc::clone(&deadline), Arc::clone(&self.give_up));
            let thread = std::thread::Builder::new()
                .name("watchdog".to_owned())
                .spawn(move || watch(&watched, &give_up));
            if let Err(error) = thread {
                report::log!(warn, %error, "no watchdog: the end of the server is not enforced");
            }
            deadline
        })
    }
}

impl Deadline {
    fn lock(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(deadline) = &self.deadline {
            deadline.lock().over = true;
            deadline.changed.notify_one();
        }
    }
}

fn watch(deadline: &Deadline, give_up: &GiveUp) {
    let mut due = deadline.lock();
    let mut late = false;
    while !due.over {
        let wait = match due.at {
            // Half of the margin is waited for anew: after a SIGSTOP of the whole process the supervisor
            // gets to move its deadline first.
            Some(_) if late => MARGIN / 2,
            Some(at) => at.saturating_duration_since(Instant::now()) + MARGIN / 2,
            None => Duration::MAX,
        };
        let before = due.at;
        let (guard, timeout) = deadline
            .changed
            .wait_timeout(due, wait)
            .unwrap_or_else(PoisonError::into_inner);
        due = guard;
        if timeout.timed_out() && due.at == before && !due.over {
            if late {
                #[cfg(feature = "process")]
                for process in &due.processes {
                    // One that can't be killed still ends by itself once its supervisor is gone; the log is
                    // no place to say so, for it may be what all of this waits for.
                    let _ = process.kill();
                }
                let code = due.code;
                drop(due);
                return give_up(code);
            }
            late = true;
        } else {
            late = false;
        }
    }
}

#[cfg(all(test, feature = "process"))]
mod tests {
    use super::*;

    use std::process::{Command, Stdio};

    use crate::server::supervisor::seats::child::Process;

    /// In a process of its own, which it ends. The worker holds that one's output open for as long as it lives.
    #[test]
    fn the_end_takes_the_workers_with_it() {
        const ALONE: &str = "AIOXIDE_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let name = "server::supervisor::watchdog::tests::the_end_takes_the_workers_with_it";
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .args(["--exact", name, "--nocapture"])
                .env(ALONE, "1");
            let begun = Instant::now();
            let output = command.stdin(Stdio::null()).output().unwrap();
            assert_eq!(output.status.code(), Some(7), "{output:?}");
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "a worker is left"
            );
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let worker = Process::new(child).unwrap();
        let mut watchdog = Watchdog::new(Arc::new(|code| std::process::exit(code)));
        watchdog.guard([worker.killer().clone()].into_iter());
        watchdog.set(Instant::now(), 7);
        loop {
            std::thread::park();
        }
    }
}
