//! What a supervisor does that is to be replaced: events and the time in, actions out.
//!
//! No clock, socket or process is in here. Times are those of the [policy](super::super::policy).

use std::time::Duration;

/// How long what was killed is waited for.
const GRACE: Duration = Duration::from_secs(1);
/// When what systemd could not be told is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it is tried.
const TELLING: Duration = Duration::from_secs(10);

/// From the start of a successor until it serves, or is gone.
#[derive(Debug)]
pub(crate) struct Handover {
    timeouts: Timeouts,
    /// A service manager is to be told of the new pid.
    notifies: bool,
    stage: Stage,
    /// What the successor has told that goes wrong.
    cause: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// By when a successor has greeted.
    pub(crate) greeting: Duration,
    /// By when it is ready, from then on.
    pub(crate) start: Duration,
    /// What it gets to stop.
    pub(crate) stop: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting {
        by: Duration,
    },
    Starting {
        by: Duration,
    },
    /// Is ready; the service manager is told of its pid.
    Naming {
        by: Duration,
        /// When it is tried again.
        again: Option<Duration>,
    },
    /// Has been asked to stop.
    Leaving {
        by: Duration,
        killed: bool,
    },
    /// Serves in the place of this supervisor.
    Released,
    /// It is gone.
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It speaks our format.
    Greeted,
    /// It doesn't, or what it says can't be understood.
    Broken(String),
    /// Something has failed in it.
    Failing(String),
    /// All of its workers and extras are ready.
    Ready,
    /// The service manager knows its pid, or is taken to.
    Named,
    /// The service manager could not be told.
    NotNamed(String),
    /// Its process has ended with 0.
    Left,
    /// Its process has ended otherwise.
    Ended(String),
    /// This supervisor stops.
    Abandon,
    /// It is forced to end at once.
    Force,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Tell the service manager of its pid. From here on its end is the manager's to see.
    Name,
    /// It serves from now on, and this supervisor stops.
    Release,
    /// SIGTERM.
    AskToStop,
    /// SIGKILL.
    Kill,
    /// It didn't become the successor, for this reason. This supervisor serves on.
    Failed(String),
    /// It is gone: what waited for it goes on.
    Over,
    /// It has died and nobody serves.
    Died(String),
}

impl Handover {
    /// Of a successor that has just been started.
    pub(crate) fn new(now: Duration, timeouts: Timeouts, notifies: bool) -> Handover {
        Handover {
            timeouts,
            notifies,
            stage: Stage::Greeting {
                by: now.saturating_add(timeouts.greeting),
            },
            cause: None,
        }
    }

    pub(crate) fn on(&mut self, now: Duration, event: Event) -> Vec<Action> {
        match (self.stage, event) {
            (Stage::Over, _) => Vec::new(),
            (Stage::Greeting { .. }, Event::Greeted) => {
                let by = now.saturating_add(self.timeouts.start);
                self.stage = Stage::Starting { by };
                Vec::new()
            }
            (Stage::Greeting { .. } | Stage::Starting { .. }, Event::Broken(cause)) => {
                self.fail(now, cause)
            }
            (Stage::Greeting { .. } | Stage::Starting { .. }, Event::Failing(cause)) => {
                self.cause.get_or_insert(cause);
                Vec::new()
            }
            (Stage::Starting { .. }, Event::Ready) => {
                let by = now.saturating_add(TELLING);
                self.stage = Stage::Naming { by, again: None };
                match self.notifies {
                    true => vec![Action::Name],
                    false => self.release(),
                }
            }
            (Stage::Naming { .. }, Event::Named) => self.release(),
            (Stage::Naming { by, .. }, Event::NotNamed(cause)) => {
                let again = now.saturating_add(AGAIN);
                if again >= by {
                    return self.fail(now, format!("systemd can't be told of it: {cause}"));
                }
                let again = Some(again);
                self.stage = Stage::Naming { by, again };
                Vec::new()
            }
            // The manager takes it for the server already.
            (Stage::Naming { .. }, Event::Ended(how)) => {
                let mut actions = self.release();
                self.stage = Stage::Over;
                actions.push(Action::Died(how));
                actions
            }
            // It was stopped, and this supervisor stops too.
            (Stage::Naming { .. }, Event::Left) => {
                let actions = self.release();
                self.stage = Stage::Over;
                actions
            }
            (Stage::Released, Event::Left) => {
                self.stage = Stage::Over;
                Vec::new()
            }
            (_, Event::Left) => self.on(now, Event::Ended("exit status: 0".to_owned())),
            (Stage::Released, Event::Ended(how)) => {
                self.stage = Stage::Over;
                vec![Action::Died(how)]
            }
            (Stage::Leaving { .. }, Event::Ended(_)) => self.over(),
            (_, Event::Ended(how)) => {
                let cause = match self.cause.take() {
                    Some(cause) => format!("{cause} ({how})"),
                    None => format!("it has ended: {how}"),
                };
                self.stage = Stage::Over;
                vec![Action::Failed(cause), Action::Over]
            }
            (Stage::Leaving { killed: false, .. }, Event::Force) => self.kill(now),
            (Stage::Leaving { .. } | Stage::Released, Event::Abandon) => Vec::new(),
            (_, Event::Abandon) => self.leave(now),
            _ => Vec::new(),
        }
    }

    /// Acts on a deadline that is due.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Action> {
        let Timeouts {
            greeting, start, ..
        } = self.timeouts;
        match self.stage {
            Stage::Greeting { by } if by <= now => {
                let text = "what is on disk isn't a server that can take over: it has not greeted";
                self.fail(now, format!("{text} within {greeting:?}"))
            }
            Stage::Starting { by } if by <= now => {
                let late = format!("it was not ready within {start:?}");
                self.fail(now, late)
            }
            Stage::Naming {
                by,
                again: Some(again),
            } if again <= now => {
                self.stage = Stage::Naming { by, again: None };
                vec![Action::Name]
            }
            Stage::Leaving { by, killed: false } if by <= now => self.kill(now),
            Stage::Leaving { by, killed: true } if by <= now => self.over(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        match self.stage {
            Stage::Greeting { by } | Stage::Starting { by } | Stage::Leaving { by, .. } => Some(by),
            Stage::Naming { again, .. } => again,
            Stage::Released | Stage::Over => None,
        }
    }

    /// Nobody could act for this long.
    pub(crate) fn gap(&mut self, gap: Duration) {
        match &mut self.stage {
            Stage::Greeting { by } | Stage::Starting { by } | Stage::Leaving { by, .. } => {
                *by = by.saturating_add(gap);
            }
            Stage::Naming { by, again } => {
                for time in again.iter_mut().chain([by]) {
                    *time = time.saturating_add(gap);
                }
            }
            Stage::Released | Stage::Over => {}
        }
    }

    /// Whether there is no successor that would be left alone by the end of this supervisor.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Released | Stage::Over)
    }

    /// Whether the successor serves in the place of this supervisor.
    #[cfg(feature = "monitor")]
    pub(crate) fn is_released(&self) -> bool {
        matches!(self.stage, Stage::Released)
    }

    fn release(&mut self) -> Vec<Action> {
        self.stage = Stage::Released;
        vec![Action::Release]
    }

    fn fail(&mut self, now: Duration, cause: String) -> Vec<Action> {
        let mut actions = vec![Action::Failed(cause)];
        actions.extend(self.leave(now));
        actions
    }

    fn leave(&mut self, now: Duration) -> Vec<Action> {
        let by = now.saturating_add(self.timeouts.stop);
        self.stage = Stage::Leaving { by, killed: false };
        vec![Action::AskToStop]
    }

    fn kill(&mut self, now: Duration) -> Vec<Action> {
        let (by, killed) = (now.saturating_add(GRACE), true);
        self.stage = Stage::Leaving { by, killed };
        vec![Action::Kill]
    }

    fn over(&mut self) -> Vec<Action> {
        self.stage = Stage::Over;
        vec![Action::Over]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMEOUTS: Timeouts = Timeouts {
        greeting: Duration::from_secs(10),
        start: Duration::from_secs(60),
        stop: Duration::from_secs(25),
    };

    fn ended() -> Event {
        Event::Ended("exit status: 1".to_owned())
    }

    fn cause(actions: &[Action]) -> &str {
        match &actions[0] {
            Action::Failed(cause) => cause,
            other => panic!("{other:?}"),
        }
    }

    /// Ready, with or without a service manager that has to be told.
    fn ready(notifies: bool) -> (Handover, Vec<Action>) {
        let mut handover = Handover::new(SECOND, TIMEOUTS, notifies);
        assert_eq!(handover.on(SECOND, Event::Greeted), []);
        let actions = handover.on(SECOND, Event::Ready);
        (handover, actions)
    }

    #[test]
    fn one_that_is_ready_is_named_and_released() {
        let (mut handover, actions) = ready(true);
        assert_eq!(actions, [Action::Name]);
        assert_eq!(handover.on(SECOND, Event::Named), [Action::Release]);
        assert!(handover.is_settled());
        #[cfg(feature = "monitor")]
        assert!(handover.is_released());
        let died = Action::Died("exit status: 1".to_owned());
        assert_eq!(handover.on(SECOND, ended()), [died]);
        assert_eq!(ready(false).1, [Action::Release]);
    }

    #[test]
    fn one_that_says_nothing_is_asked_to_stop_and_then_killed() {
        let mut handover = Handover::new(Duration::ZERO, TIMEOUTS, false);
        let at = 10 * SECOND;
        assert_eq!(handover.tick(at - SECOND), []);
        let actions = handover.tick(at);
        assert!(cause(&actions).contains("has not greeted within 10s"));
        assert_eq!(actions[1..], [Action::AskToStop]);
        assert_eq!(handover.next_deadline(), Some(at + 25 * SECOND));
        assert_eq!(handover.tick(at + 25 * SECOND), [Action::Kill]);
        assert_eq!(handover.on(at + 25 * SECOND, ended()), [Action::Over]);
    }

    #[test]
    fn one_that_is_never_ready_is_given_up_after_the_start_timeout() {
        let mut handover = Handover::new(Duration::ZERO, TIMEOUTS, false);
        handover.on(SECOND, Event::Greeted);
        assert_eq!(handover.next_deadline(), Some(61 * SECOND));
        let actions = handover.tick(61 * SECOND);
        assert_eq!(cause(&actions), "it was not ready within 60s");
    }

    #[test]
    fn what_it_says_of_its_failure_is_the_cause() {
        let mut handover = Handover::new(Duration::ZERO, TIMEOUTS, false);
        handover.on(SECOND, Event::Greeted);
        handover.on(SECOND, Event::Failing("worker 0 failed: no".to_owned()));
        let actions = handover.on(SECOND, ended());
        assert_eq!(cause(&actions), "worker 0 failed: no (exit status: 1)");
        assert_eq!(actions[1..], [Action::Over]);
    }

    #[test]
    fn systemd_is_told_again_until_it_can_be() {
        let (mut handover, _) = ready(true);
        let full = || Event::NotNamed("full".to_owned());
        assert_eq!(handover.on(SECOND, full()), []);
        let again = SECOND + AGAIN;
        assert_eq!(handover.next_deadline(), Some(again));
        assert_eq!(handover.tick(again), [Action::Name]);
        let actions = handover.on(11 * SECOND, full());
        assert_eq!(cause(&actions), "systemd can't be told of it: full");
    }

    #[test]
    fn one_that_dies_when_systemd_knows_it_takes_the_server_with_it() {
        let (mut handover, _) = ready(true);
        let died = Action::Died("exit status: 1".to_owned());
        assert_eq!(handover.on(SECOND, ended()), [Action::Release, died]);
    }

    #[test]
    fn one_that_is_stopped_when_it_serves_has_not_died() {
        let (mut handover, _) = ready(false);
        assert_eq!(handover.on(SECOND, Event::Left), []);
        let (mut handover, _) = ready(true);
        assert_eq!(handover.on(SECOND, Event::Left), [Action::Release]);
        let mut handover = Handover::new(Duration::ZERO, TIMEOUTS, false);
        let actions = handover.on(SECOND, Event::Left);
        assert_eq!(cause(&actions), "it has ended: exit status: 0");
    }

    fn event() -> impl Strategy<Value = Option<Event>> {
        let text = String::new;
        prop_oneof![
            Just(None),
            prop::sample::select(vec![
                Event::Greeted,
                Event::Broken(text()),
                Event::Failing(text()),
                Event::Ready,
                Event::Named,
                Event::NotNamed(text()),
                Event::Abandon,
                Event::Force,
            ])
            .prop_map(Some),
        ]
    }

    proptest! {
        /// It is released at most once, and only after systemd was told; else it is told to leave before it is killed,
        /// and comes to its end in time whatever it does.
        #[test]
        fn it_serves_or_is_gone(
            notifies: bool,
            events in prop::collection::vec((0..20_000_u64, event()), 0..40),
        ) {
            let mut now = Duration::ZERO;
            let mut handover = Handover::new(now, TIMEOUTS, notifies);
            let mut done = Vec::new();
            for (wait, event) in events {
                let until = now + Duration::from_millis(wait);
                while let Some(at) = handover.next_deadline().filter(|at| *at <= until) {
                    now = now.max(at);
                    done.extend(handover.tick(now));
                }
                now = until;
                if let Some(event) = event {
                    done.extend(handover.on(now, event));
                }
            }
            done.extend(handover.on(now, Event::Abandon));
            while let Some(at) = handover.next_deadline() {
                prop_assert!(at <= now + TIMEOUTS.stop + GRACE);
                now = now.max(at);
                done.extend(handover.tick(now));
            }
            prop_assert!(handover.is_settled());
            let nth = |action: &Action| done.iter().position(|it| it == action);
            let count = |action: &Action| done.iter().filter(|it| *it == action).count();
            let released = nth(&Action::Release);
            prop_assert!(count(&Action::Release) + count(&Action::Over) == 1, "{:?}", done);
            prop_assert_eq!(released.is_none(), count(&Action::AskToStop) == 1);
            if let Some(released) = released {
                prop_assert!(!notifies || nth(&Action::Name) < Some(released));
                prop_assert_eq!(count(&Action::Kill), 0);
            }
            if let Some(killed) = nth(&Action::Kill) {
                prop_assert!(nth(&Action::AskToStop) < Some(killed));
            }
        }
    }
}
