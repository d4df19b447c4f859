//! Whether an event loop turns, as it tells itself.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;

use tokio::sync::watch;

/// Written by the event loop, whenever it parks and goes on, and by whoever watches it.
pub(crate) struct Turning {
    /// How many times it has gone on.
    turns: AtomicU64,
    parked: AtomicBool,
    /// The number of the last question, and of the last answer.
    asked: watch::Sender<u64>,
    answered: AtomicU64,
    watcher: OnceLock<Sleeper>,
}

/// A thread that sleeps when there is nothing to watch.
#[derive(Clone)]
pub(crate) struct Sleeper {
    pub(crate) thread: Thread,
    pub(crate) asleep: std::sync::Arc<AtomicBool>,
}

impl Sleeper {
    pub(crate) fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

impl Default for Turning {
    fn default() -> Turning {
        Turning {
            turns: AtomicU64::new(0),
            parked: AtomicBool::new(false),
            asked: watch::Sender::new(0),
            answered: AtomicU64::new(0),
            watcher: OnceLock::new(),
        }
    }
}

impl Turning {
    /// The loop has nothing to do.
    pub(crate) fn parks(&self) {
        self.parked.store(true, Ordering::SeqCst);
    }

    /// It has something to do again.
    pub(crate) fn goes_on(&self) {
        self.parked.store(false, Ordering::SeqCst);
        self.turns.fetch_add(1, Ordering::SeqCst);
        if let Some(watcher) = self.watcher.get() {
            watcher.wake();
        }
    }

    /// Whom it wakes.
    pub(crate) fn watched_by(&self, watcher: Sleeper) {
        // There is one for each loop.
        let _ = self.watcher.set(watcher);
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.parked.load(Ordering::SeqCst)
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    pub(crate) fn ask(&self, number: u64) {
        self.asked.send_replace(number);
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Answers for as long as the loop turns.
    pub(crate) async fn answer(&self) {
        let mut asked = self.asked.subscribe();
        loop {
            let number = *asked.borrow_and_update();
            self.answered.store(number, Ordering::Relaxed);
            if asked.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use futures_util::FutureExt;

    #[test]
    fn a_loop_parks_and_goes_on() {
        let turning = Turning::default();
        assert_eq!((turning.is_parked(), turning.turns()), (false, 0));
        turning.parks();
        assert_eq!((turning.is_parked(), turning.turns()), (true, 0));
        for turn in 1..4 {
            turning.goes_on();
            assert_eq!((turning.is_parked(), turning.turns()), (false, turn));
            turning.parks();
        }
    }

    #[test]
    fn it_answers_the_last_question_when_it_turns() {
        let turning = Turning::default();
        turning.ask(1);
        assert_eq!(turning.answered(), 0, "it hasn't turned");
        let mut answering = Box::pin(turning.answer());
        assert!(answering.as_mut().now_or_never().is_none());
        assert_eq!(turning.answered(), 1);
        turning.ask(2);
        turning.ask(3);
        assert_eq!(turning.answered(), 1, "it doesn't turn");
        assert!(answering.as_mut().now_or_never().is_none());
        assert_eq!(turning.answered(), 3);
    }

    #[test]
    fn a_loop_that_goes_on_wakes_who_watches_it_once() {
        let asleep = Arc::new(AtomicBool::new(true));
        let (woken, heard) = mpsc::channel();
        let sleeping = Arc::clone(&asleep);
        let thread = thread::spawn(move || {
            while sleeping.load(Ordering::SeqCst) {
                thread::park();
            }
            woken.send(()).unwrap();
        });
        let turning = Turning::default();
        turning.goes_on();
        turning.watched_by(Sleeper {
            thread: thread.thread().clone(),
            asleep: Arc::clone(&asleep),
        });
        turning.parks();
        assert!(asleep.load(Ordering::SeqCst));
        turning.goes_on();
        assert!(!asleep.load(Ordering::SeqCst));
        heard.recv_timeout(Duration::from_secs(30)).unwrap();
        thread.join().unwrap();
        turning.goes_on();
        assert!(!asleep.load(Ordering::SeqCst));
    }
}
