//! The servers that a program runs: which of them a process worker is to find, and which may not be run at all.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::worker;
#[cfg(feature = "process")]
use super::{
    line::role_variable::{Past, RunId},
    report,
    worker::started::{self, Started},
};

/// Why a server may not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("it is run inside a worker of another server; a server is run from `main`")]
    Nested,
    #[cfg(feature = "process")]
    #[error(
        "another server of the name `{0}` is running, and their process workers could not tell which is theirs: give \
         each a name of its own with `Server::name`"
    )]
    SameName(String),
    #[error("{0}")]
    System(#[from] io::Error),
}

/// What a call of `Server::run` is in this process.
pub(crate) enum Turn {
    /// This process is the supervisor.
    Supervisor(Registration),
    /// This process is a worker of it, and this its control socket.
    #[cfg(feature = "process")]
    Worker(std::os::fd::OwnedFd, Registration),
    /// This process is a worker of another one.
    #[cfg(feature = "process")]
    Elsewhere,
}

/// A server that runs, until this is dropped.
pub(crate) struct Registration {
    name: String,
    number: usize,
    /// How many calls there were before, of any name.
    nth: usize,
    /// It is what this process was started for.
    is_own_turn: bool,
    /// The socket to the supervisor that this one is to replace.
    #[cfg(feature = "process")]
    predecessor: Option<std::os::fd::OwnedFd>,
}

impl Registration {
    /// Whether it is the first that the program runs.
    pub(crate) fn is_first(&self) -> bool {
        self.nth == 0
    }

    /// The socket to the supervisor that this one is to replace, if it was started for that; given once.
    #[cfg(feature = "process")]
    pub(crate) fn take_predecessor(&mut self) -> Option<std::os::fd::OwnedFd> {
        self.predecessor.take()
    }

    /// What tells this run from the others of the program.
    #[cfg(feature = "process")]
    pub(crate) fn id(&self) -> RunId {
        RunId {
            name: self.name.clone(),
            number: self.number,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut runs = runs();
        runs.calls.end(&self.name, self.number);
        runs.turn_is_over |= self.is_own_turn;
        drop(runs);
        TURN_IS_OVER.notify_all();
    }
}

struct Runs {
    calls: Calls,
    /// Read once: after that, stdin tells nothing.
    #[cfg(feature = "process")]
    started: Option<Started>,
    /// A worker's own run has ended.
    turn_is_over: bool,
}

static RUNS: Mutex<Runs> = Mutex::new(Runs {
    calls: Calls::new(),
    #[cfg(feature = "process")]
    started: None,
    turn_is_over: false,
});
static TURN_IS_OVER: Condvar = Condvar::new();

fn runs() -> MutexGuard<'static, Runs> {
    RUNS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(feature = "process")]
impl Runs {
    fn started(&mut self) -> io::Result<&mut Started> {
        let started = match self.started.take() {
            Some(started) => started,
            None => started::started()?,
        };
        Ok(self.started.insert(started))
    }
}

/// Whether this code runs in a worker, an extra or the main context of a server, or in a process that was started to be a
/// worker: there also before [`Server::run`](crate::Server::run), for a program that is to do something only once.
///
/// ```
/// if !aioxide::is_worker() {
///     println!("starting");
/// }
/// ```
pub fn is_worker() -> bool {
    #[cfg(feature = "process")]
    // What is wrong with the role is told by `run`.
    if matches!(runs().started(), Ok(Started::AsWorker { .. })) {
        return true;
    }
    worker::is_on_worker_thread()
}

/// What a worker that is started now has to know of the program's runs.
#[cfg(feature = "process")]
pub(crate) fn past() -> Vec<Past> {
    runs().calls.past()
}

/// Finds out what a call of `Server::run` is. In a worker of a server that runs beside this one, it returns only once
/// that worker has ended: the program may have nothing else that keeps it alive.
#[cfg_attr(not(feature = "process"), expect(unused_variables))]
pub(crate) fn turn(name: &str, has_processes: bool) -> Result<Turn, RunError> {
    let (nth, number) = runs().calls.begin(name);
    #[cfg_attr(not(feature = "process"), expect(unused_mut))]
    let mut registration = Registration {
        name: name.to_owned(),
        number,
        nth,
        is_own_turn: false,
        #[cfg(feature = "process")]
        predecessor: None,
    };
    #[cfg(feature = "process")]
    {
        let id = registration.id();
        // Unlocked before `registration` is dropped, which locks it.
        let mut runs = runs();
        match runs.started()? {
            started @ (Started::ByUser | Started::AsSuccessor { .. }) => {
                if let (Started::AsSuccessor { socket }, 0) = (started, nth) {
                    registration.predecessor = socket.take();
                }
                if has_processes && !runs.calls.claim(name, number) {
                    return Err(RunError::SameName(name.to_owned()));
                }
            }
            Started::AsWorker { socket, role } if role.is_for(&id, nth) => {
                // A second call can't be of the same number.
                return Ok(match socket.take() {
                    Some(socket) => {
                        registration.is_own_turn = true;
                        Turn::Worker(socket, registration)
                    }
                    None => Turn::Elsewhere,
                });
            }
            Started::AsWorker { role, .. } => {
                let (is_over, has_begun) = (role.is_over(&id), role.has_begun(&id));
                let own = role.run.name.clone();
                if !is_over && !has_begun && !runs.turn_is_over {
                    report::log!(
                        warn,
                        "`{name}` is not run here: this process is a worker of `{own}`"
                    );
                }
                while !is_over && !runs.turn_is_over {
                    runs = TURN_IS_OVER
                        .wait(runs)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                return Ok(Turn::Elsewhere);
            }
        }
    }
    Ok(Turn::Supervisor(registration))
}

/// Whether a server runs beside the first one.
#[cfg(feature = "process")]
pub(crate) fn runs_several() -> bool {
    let runs = runs();
    let running = runs.calls.0.values().map(|named| named.running.len());
    running.sum::<usize>() > 1
}

/// To be called first.
pub(crate) fn refuse_nested() -> Result<(), RunError> {
    if worker::is_on_worker_thread() {
        return Err(RunError::Nested);
    }
    Ok(())
}

/// The calls so far, by name.
struct Calls(BTreeMap<String, Named>);

#[derive(Default)]
struct Named {
    next: usize,
    running: BTreeSet<usize>,
    /// The one whose workers are processes, which find it by its name.
    claimed: Option<usize>,
}

impl Calls {
    const fn new() -> Calls {
        Calls(BTreeMap::new())
    }

    /// How many calls there were before one that begins: in all, and of its name.
    fn begin(&mut self, name: &str) -> (usize, usize) {
        let nth = self.0.values().map(|named| named.next).sum();
        let named = self.0.entry(name.to_owned()).or_default();
        let number = named.next;
        named.next += 1;
        named.running.insert(number);
        (nth, number)
    }

    /// Whether the name can be this call's.
    #[cfg(feature = "process")]
    fn claim(&mut self, name: &str, number: usize) -> bool {
        match self.0.get_mut(name) {
            Some(named) if named.claimed.is_none() => {
                named.claimed = Some(number);
                true
            }
            _ => false,
        }
    }

    fn end(&mut self, name: &str, number: usize) {
        if let Some(named) = self.0.get_mut(name) {
            named.running.remove(&number);
            named.claimed = named.claimed.filter(|claimed| *claimed != number);
        }
    }

    #[cfg(feature = "process")]
    fn past(&self) -> Vec<Past> {
        let past = |(name, named): (&String, &Named)| Past {
            name: name.clone(),
            over: named.running.first().copied().unwrap_or(named.next),
            begun: named.next,
        };
        self.0.iter().map(past).collect()
    }
}

#[cfg(all(test, feature = "process"))]
mod tests {
    use super::*;

    #[test]
    fn calls_are_numbered_by_name() {
        let mut calls = Calls::new();
        assert_eq!(
            [calls.begin("a"), calls.begin("b"), calls.begin("a")],
            [(0, 0), (1, 0), (2, 1)]
        );
        let past = |calls: &Calls| {
            let past = calls.past().into_iter();
            past.map(|past| (past.name, past.over, past.begun))
                .collect::<Vec<_>>()
        };
        let [a, b] = ["a".to_owned(), "b".to_owned()];
        assert_eq!(past(&calls), [(a.clone(), 0, 2), (b.clone(), 0, 1)]);
        calls.end("a", 1);
        assert_eq!(past(&calls)[0].1, 0, "the first still runs");
        calls.end("a", 0);
        assert_eq!(past(&calls), [(a, 2, 2), (b, 0, 1)]);
    }

    #[test]
    fn a_name_is_for_one_server_with_processes_at_a_time() {
        let mut calls = Calls::new();
        let [threads, first, second] = [(); 3].map(|()| calls.begin("a").1);
        assert!(calls.claim("a", first));
        assert!(!calls.claim("a", second));
        calls.end("a", threads);
        assert!(!calls.claim("a", second));
        calls.end("a", first);
        assert!(calls.claim("a", second));
    }
}
