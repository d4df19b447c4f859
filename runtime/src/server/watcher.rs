//! Notices event loops that are blocked, from a thread of its own, and lets them be when they are idle.
//!
//! A loop that is parked is never asked. One that hasn't parked for a while may be busy, or blocked: it is asked, and is
//! blocked if it doesn't answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::line::{Line, Message, Sleeper, Told};
use super::report;

/// How often loops are looked at.
const LOOK: Duration = Duration::from_millis(25);
/// After how long without parking a loop is asked.
const BUSY: Duration = Duration::from_millis(50);
/// After how long without an answer it is blocked.
const SILENT: Duration = Duration::from_millis(50);
/// After how long in which no loop has done anything they aren't looked at.
const IDLE: Duration = Duration::from_secs(1);

/// Watches event loops of this process.
#[derive(Clone, Default)]
pub(crate) struct Watcher(Arc<Shared>);

#[derive(Default)]
struct Shared {
    loops: Mutex<Vec<Watched>>,
    sleeper: Mutex<Option<Sleeper>>,
}

struct Watched {
    told: Arc<Told>,
    line: Line,
    sight: Sight,
}

/// Dropped when the loop turns no more.
pub(crate) struct Watching {
    shared: Arc<Shared>,
    told: Arc<Told>,
}

impl Watcher {
    /// Has a loop watched that tells in `told` how it turns: its supervisor is told by `line` when it is blocked, and when
    /// it isn't any more. Without a thread to be had, it isn't.
    pub(crate) fn watch(&self, told: &Arc<Told>, line: &Line) -> Option<Watching> {
        match self.sleeper() {
            Ok(sleeper) => {
                told.turning.watched_by(sleeper.clone());
                self.0.loops().push(Watched {
                    told: Arc::clone(told),
                    line: line.clone(),
                    sight: Sight::default(),
                });
                sleeper.wake();
                Some(Watching {
                    shared: Arc::clone(&self.0),
                    told: Arc::clone(told),
                })
            }
            Err(error) => {
                report::log!(warn, %error, "blocked event loops go unnoticed: no thread for that");
                None
            }
        }
    }

    fn sleeper(&self) -> std::io::Result<Sleeper> {
        let mut sleeper = lock(&self.0.sleeper);
        if let Some(sleeper) = &*sleeper {
            return Ok(sleeper.clone());
        }
        let asleep = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("watch".to_owned()).spawn({
            let (shared, asleep) = (Arc::downgrade(&self.0), Arc::clone(&asleep));
            move || {
                let mut active_at = Instant::now();
                loop {
                    thread::park_timeout(LOOK);
                    let Some(shared) = shared.upgrade() else {
                        return;
                    };
                    let now = Instant::now();
                    if shared.look(now) {
                        active_at = now;
                    }
                    if now.saturating_duration_since(active_at) >= IDLE {
                        asleep.store(true, Ordering::SeqCst);
                        // One that has gone on before it could know would wake nobody.
                        while !shared.look(Instant::now()) && asleep.load(Ordering::SeqCst) {
                            thread::park();
                        }
                        asleep.store(false, Ordering::SeqCst);
                        active_at = Instant::now();
                    }
                }
            }
        })?;
        let thread = thread.thread().clone();
        Ok(sleeper.insert(Sleeper { thread, asleep }).clone())
    }
}

impl Shared {
    fn loops(&self) -> MutexGuard<'_, Vec<Watched>> {
        lock(&self.loops)
    }

    /// Whether any of them has done something.
    fn look(&self, now: Instant) -> bool {
        let mut active = false;
        for Watched { told, line, sight } in &mut *self.loops() {
            let turning = &told.turning;
            // In this order, so that one that parks between the two has parked.
            let (turns, parked) = (turning.turns(), turning.is_parked());
            active |= !parked || sight.turns != turns;
            match sight.look(now, turns, parked, turning.answered()) {
                None => {}
                Some(Finding::Ask(number)) => turning.ask(number),
                Some(Finding::Blocked(blocked)) => line.say(Message::Blocked(blocked)),
            }
        }
        active
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut loops = self.shared.loops();
        loops.retain(|watched| !Arc::ptr_eq(&watched.told, &self.told));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(sleeper) = &*lock(&self.sleeper) {
            sleeper.asleep.store(false, Ordering::SeqCst);
            sleeper.thread.unpark();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was seen of a loop.
#[derive(Debug, Default)]
struct Sight {
    turns: u64,
    /// It hasn't parked since, nor answered.
    busy_since: Option<Instant>,
    /// The last question, and when it was asked, if it is open.
    asked: u64,
    asked_at: Option<Instant>,
    blocked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// Ask, with this number.
    Ask(u64),
    Blocked(bool),
}

impl Sight {
    fn look(&mut self, now: Instant, turns: u64, parked: bool, answered: u64) -> Option<Finding> {
        let has_answered = self.asked_at.is_some() && answered == self.asked;
        if parked || turns != self.turns || has_answered {
            self.turns = turns;
            self.busy_since = (!parked).then_some(now);
            self.asked_at = None;
            let was_blocked = std::mem::take(&mut self.blocked);
            return was_blocked.then_some(Finding::Blocked(false));
        }
        let busy = now.saturating_duration_since(*self.busy_since.get_or_insert(now));
        match self.asked_at {
            None if busy >= BUSY => {
                self.asked += 1;
                self.asked_at = Some(now);
                Some(Finding::Ask(self.asked))
            }
            Some(at) if !self.blocked && now.saturating_duration_since(at) >= SILENT => {
                self.blocked = true;
                Some(Finding::Blocked(true))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::mpsc;

    use proptest::prelude::*;

    /// What is found at a look every 25 ms of a loop that is in these states.
    fn findings(states: impl IntoIterator<Item = (u64, bool, u64)>) -> Vec<Option<Finding>> {
        let (mut sight, mut now) = (Sight::default(), Instant::now());
        let look = |(turns, parked, answered)| {
            now += LOOK;
            sight.look(now, turns, parked, answered)
        };
        states.into_iter().map(look).collect()
    }

    #[test]
    fn a_loop_that_neither_parks_nor_answers_is_blocked() {
        let found = findings([(1, false, 0); 8]);
        let mut expected = [None; 8];
        expected[2] = Some(Finding::Ask(1));
        expected[4] = Some(Finding::Blocked(true));
        assert_eq!(found, expected);
    }

    #[test]
    fn one_that_is_busy_answers_and_is_asked_again() {
        let mut states = vec![(1, false, 0); 3];
        states.extend([(1, false, 1); 3]);
        let found = findings(states);
        assert_eq!(found[2], Some(Finding::Ask(1)));
        assert_eq!(found[3..], [None, None, Some(Finding::Ask(2))]);
    }

    #[test]
    fn one_that_was_blocked_is_free_once_it_parks_or_answers() {
        for freed in [(2, true, 0), (2, false, 0), (1, false, 1)] {
            let mut states = vec![(1, false, 0); 10];
            states.push(freed);
            assert_eq!(
                findings(states).last(),
                Some(&Some(Finding::Blocked(false)))
            );
        }
    }

    proptest! {
        #[test]
        fn a_loop_that_parks_often_enough_is_never_asked(turns in proptest::collection::vec((any::<bool>(), 0..2_u64), 1..200)) {
            let mut now = 0;
            let states = turns.into_iter().map(|(parked, added)| {
                // At least at every second look.
                now += added;
                (now * 2, parked, 0)
            });
            let mut last = (false, u64::MAX);
            let mut calm = 0;
            let mut sight = Sight::default();
            let mut at = Instant::now();
            for (turns, parked, answered) in states {
                at += LOOK;
                calm = if parked || turns != last.1 { 0 } else { calm + 1 };
                last = (parked, turns);
                let found = sight.look(at, turns, parked, answered);
                if calm < 2 {
                    prop_assert!(!matches!(found, Some(Finding::Ask(_) | Finding::Blocked(true))));
                }
            }
        }
    }

    #[test]
    fn the_thread_sleeps_while_loops_are_parked_and_is_woken_by_them() {
        let watcher = Watcher::default();
        let told = Arc::new(Told::default());
        let (said, heard) = mpsc::channel();
        let line = Line::new(move |message| drop(said.send(message)));
        told.turning.parks();
        let watching = watcher.watch(&told, &line);
        let asleep = Arc::clone(&watcher.sleeper().unwrap().asleep);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !asleep.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "it never sleeps");
            thread::yield_now();
        }
        told.turning.goes_on();
        let message = heard.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(message, Message::Blocked(true)));
        told.turning.parks();
        let message = heard.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(message, Message::Blocked(false)));
        drop((watching, watcher, line));
        // The thread has let go of everything.
        assert!(heard.recv_timeout(Duration::from_secs(30)).is_err());
    }
}
