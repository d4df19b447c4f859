//! For how long this process did not run: stopped by a signal, or suspended with its machine.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::server::report;

/// What is shorter than this counts as nothing.
pub(super) const GAP: Duration = Duration::from_secs(1);
/// How often the thread looks at the clock unasked.
const BEAT: Duration = Duration::from_millis(500);

/// A thread that does nothing but look at the clock. When it too was late, the process did not run; when only the
/// supervisor was, that had too much to do or waited for somebody to read the log, and no deadline moves for that.
pub(super) struct Absence {
    /// None where there is no such thread.
    shared: Option<Arc<Shared>>,
    seen: Duration,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// All absences so far.
    total: Duration,
    /// Somebody waits for a look at the clock.
    asked: bool,
    over: bool,
}

impl Absence {
    pub(super) fn watch() -> Absence {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("clock".to_owned())
            .spawn(move || watched.look_at_the_clock());
        if let Err(error) = &thread {
            report::log!(warn, %error, "time for which the supervisor is suspended will count");
        }
        Absence {
            shared: thread.is_ok().then_some(shared),
            seen: Duration::ZERO,
        }
    }

    /// What there was before doesn't count.
    pub(super) fn forget(&mut self) {
        if let Some(shared) = &self.shared {
            self.seen = shared.lock().total;
        }
    }

    /// How long there was none of this process since it was last asked, or told to forget.
    pub(super) fn take(&mut self) -> Duration {
        let Some(shared) = &self.shared else {
            return Duration::ZERO;
        };
        let mut state = shared.lock();
        state.asked = true;
        shared.changed.notify_all();
        let looks = |state: &mut State| state.asked;
        let (state, _) = shared
            .changed
            .wait_timeout_while(state, GAP, looks)
            .unwrap_or_else(PoisonError::into_inner);
        let total = state.total;
        total - std::mem::replace(&mut self.seen, total)
    }
}

impl Drop for Absence {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.lock().over = true;
            shared.changed.notify_all();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at_the_clock(&self) {
        let mut last = Instant::now();
        let mut state = self.lock();
        while !state.over {
            let waits = |state: &mut State| !state.asked && !state.over;
            (state, _) = self
                .changed
                .wait_timeout_while(state, BEAT, waits)
                .unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            state.total += absent(now.saturating_duration_since(last));
            last = now;
            state.asked = false;
            self.changed.notify_all();
        }
    }
}

/// What of the time between two looks at the clock was none of this process's.
fn absent(between: Duration) -> Duration {
    match between.saturating_sub(BEAT) {
        late if late > GAP => late,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_is_late_by_more_than_a_second_is_an_absence() {
        assert_eq!(absent(BEAT), Duration::ZERO);
        assert_eq!(absent(BEAT + GAP), Duration::ZERO);
        assert_eq!(
            absent(Duration::from_secs(60)),
            Duration::from_secs(60) - BEAT
        );
    }

    /// Whatever else it does meanwhile, and however long that takes.
    #[test]
    fn a_thread_that_is_held_up_in_a_process_that_runs_is_no_absence() {
        let mut absence = Absence::watch();
        let start = Instant::now();
        // As in a flood, or in a write that nobody reads.
        while start.elapsed() < GAP + BEAT + Duration::from_millis(300) {
            std::hint::spin_loop();
        }
        assert_eq!(absence.take(), Duration::ZERO);
    }
}
