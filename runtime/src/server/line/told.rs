//! What a worker has been told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::loans::Loans;
use super::message::Message;
#[cfg(feature = "monitor")]
use super::query::{Queries, Query};
use super::turning::Turning;
use crate::server::Stop;

/// Written from any thread, read by the worker's event loop.
pub(crate) struct Told {
    pub(crate) stop: StopCell,
    /// How many times SIGUSR1 was told.
    pub(crate) reloads: watch::Sender<u64>,
    /// The number of the last ping.
    pub(crate) pinged: watch::Sender<u64>,
    pub(crate) loans: Loans,
    /// How often it was told that a timer with `single` may be free which was refused.
    #[cfg(feature = "timer")]
    pub(crate) freed: watch::Sender<u64>,
    /// Told by the event loop itself.
    pub(crate) turning: Turning,
    /// How many connections the accept loops have accepted; and how many of them the supervisor knows of.
    pub(crate) accepted: AtomicU64,
    known: AtomicU64,
    /// What is asked, if somebody may look into the server.
    #[cfg(feature = "monitor")]
    pub(crate) queries: Option<Queries>,
}

impl Default for Told {
    fn default() -> Told {
        Told {
            stop: StopCell::default(),
            reloads: watch::Sender::new(0),
            pinged: watch::Sender::new(0),
            loans: Loans::default(),
            #[cfg(feature = "timer")]
            freed: watch::Sender::new(0),
            turning: Turning::default(),
            accepted: AtomicU64::new(0),
            known: AtomicU64::new(0),
            #[cfg(feature = "monitor")]
            queries: None,
        }
    }
}

impl Told {
    /// Of a worker that may be asked.
    #[cfg(feature = "monitor")]
    pub(crate) fn watched() -> Told {
        Told {
            queries: Some(Queries::new()),
            ..Told::default()
        }
    }

    #[cfg(feature = "monitor")]
    pub(crate) fn query(&self, number: u64, query: Query) {
        if let Some(queries) = &self.queries {
            queries.ask(number, query);
        }
    }

    pub(crate) fn reload(&self) {
        self.reloads.send_modify(|count| *count += 1);
    }

    #[cfg(feature = "timer")]
    pub(crate) fn free(&self) {
        self.freed.send_modify(|count| *count += 1);
    }

    /// Has the event loop answer. One that is parked is well, and needn't be woken to say so.
    pub(crate) fn ping(&self, number: u64, say: impl Fn(Message)) {
        if self.turning.is_parked() {
            self.answer(number, say);
        } else {
            self.pinged.send_replace(number);
        }
    }

    /// Says that the loop is well, and how much it has accepted if that has changed.
    pub(crate) fn answer(&self, number: u64, say: impl Fn(Message)) {
        say(Message::Pong(number));
        let accepted = self.accepted.load(Ordering::Relaxed);
        if self.known.swap(accepted, Ordering::Relaxed) != accepted {
            say(Message::Accepted(accepted));
        }
    }
}

/// Holds a worker's `Stop` once it has been asked to stop; the first request wins.
#[derive(Default)]
pub(crate) struct StopCell {
    stop: Mutex<Option<Stop>>,
    /// So that whoever looks again and again needn't lock.
    is_set: AtomicBool,
    /// For threads that wait without a runtime.
    told: Condvar,
    /// For tasks; cancelled after `stop` is set.
    token: CancellationToken,
    /// The server is going, or this worker alone has been asked to stop. Cancelled before `token`.
    going: CancellationToken,
}

impl StopCell {
    pub(crate) fn set(&self, stop: Stop) {
        let mut slot = self.lock();
        if slot.is_none() {
            *slot = Some(stop);
            self.is_set.store(true, Ordering::Release);
            self.told.notify_all();
            self.going.cancel();
            self.token.cancel();
        }
    }

    /// A stop will follow.
    pub(crate) fn go(&self) {
        self.going.cancel();
    }

    pub(crate) fn is_going(&self) -> bool {
        self.going.is_cancelled()
    }

    /// Ready once that is so.
    pub(crate) fn gone(&self) -> WaitForCancellationFutureOwned {
        self.going.clone().cancelled_owned()
    }

    pub(crate) fn get(&self) -> Option<Stop> {
        self.is_set
            .load(Ordering::Acquire)
            .then(|| *self.lock())
            .flatten()
    }

    /// Ready once it is set.
    pub(crate) fn told(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }

    pub(crate) fn wait_blocking(&self) -> Stop {
        let mut slot = self.lock();
        loop {
            match *slot {
                Some(stop) => return stop,
                None => slot = self.told.wait(slot).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Stop>> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::cell::RefCell;
    use std::sync::Arc;
    use std::thread;

    use futures_util::FutureExt;

    use crate::server::StopReason;

    fn stop(reason: StopReason) -> Stop {
        Stop::new(reason, tokio::time::Instant::now())
    }

    /// The pongs, and what was accepted, negative.
    fn said(told: &Told, number: u64) -> Vec<i64> {
        let said = RefCell::default();
        told.ping(number, |message| match message {
            Message::Pong(number) => Vec::push(&mut said.borrow_mut(), number as i64),
            Message::Accepted(count) => said.borrow_mut().push(-(count as i64)),
            _ => panic!("something else"),
        });
        said.into_inner()
    }

    #[test]
    fn a_parked_loop_tells_what_it_has_accepted_without_being_woken() {
        let told = Told::default();
        told.turning.parks();
        assert_eq!(said(&told, 1), [1]);
        told.accepted.store(20, Ordering::Relaxed);
        assert_eq!(said(&told, 2), [2, -20]);
        assert_eq!(said(&told, 3), [3]);
        told.accepted.store(21, Ordering::Relaxed);
        told.turning.goes_on();
        assert_eq!(said(&told, 4), [0; 0], "the loop answers itself");
        assert_eq!(*told.pinged.borrow(), 4);
    }

    #[test]
    fn the_first_stop_wins_and_everybody_who_waits_gets_it() {
        let cell = Arc::new(StopCell::default());
        let (told, gone) = (cell.told(), cell.gone());
        let waiting = thread::spawn({
            let cell = Arc::clone(&cell);
            move || cell.wait_blocking().reason()
        });
        assert!(cell.get().is_none() && !cell.is_going());
        assert!(cell.told().now_or_never().is_none());
        assert!(cell.gone().now_or_never().is_none());

        cell.set(stop(StopReason::Restart));
        cell.set(stop(StopReason::Failure));
        assert_eq!(cell.get().unwrap().reason(), StopReason::Restart);
        assert_eq!(waiting.join().unwrap(), StopReason::Restart);
        assert_eq!(cell.wait_blocking().reason(), StopReason::Restart);
        assert!(cell.is_going());
        for ready in [told, gone, cell.told(), cell.gone()] {
            assert!(ready.now_or_never().is_some());
        }
    }

    #[test]
    fn a_server_that_is_going_has_not_stopped() {
        let cell = StopCell::default();
        let gone = cell.gone();
        cell.go();
        assert!(cell.is_going() && gone.now_or_never().is_some());
        assert!(cell.get().is_none() && cell.told().now_or_never().is_none());
        cell.set(stop(StopReason::Completed));
        assert_eq!(cell.get().unwrap().reason(), StopReason::Completed);
    }

    #[test]
    fn whoever_listens_hears_each_time() {
        let told = Told::default();
        let mut reloads = told.reloads.subscribe();
        for count in 1..4 {
            told.reload();
            assert!(reloads.has_changed().unwrap());
            assert_eq!(*reloads.borrow_and_update(), count);
        }
        #[cfg(feature = "timer")]
        {
            let mut freed = told.freed.subscribe();
            for count in 1..4 {
                told.free();
                assert!(freed.has_changed().unwrap());
                assert_eq!(*freed.borrow_and_update(), count);
            }
        }
    }

    #[test]
    #[cfg(feature = "monitor")]
    fn only_a_worker_that_is_watched_is_asked() {
        let watched = Told::watched();
        watched.query(7, Query::Tasks);
        let mut asked = watched.queries.unwrap().take().unwrap();
        assert_eq!(asked.try_recv(), Ok((7, Query::Tasks)));
        let unwatched = Told::default();
        unwatched.query(7, Query::Tasks);
        assert!(unwatched.queries.is_none());
    }
}
