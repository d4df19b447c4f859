//! What a supervisor does that replaces another one. Pure, as [`handover`](super::handover) is.

#[derive(Debug, Default)]
pub(crate) struct Succession {
    ready: bool,
    serves: bool,
    alone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// All workers and extras are ready.
    Ready,
    /// The predecessor has stopped serving, and leaves.
    Released,
    /// The predecessor is gone.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Tell the predecessor that all is ready.
    SayReady,
    /// What the predecessor had is this supervisor's now.
    TakeOver {
        /// The predecessor has died before it could release it.
        orphaned: bool,
    },
    /// Nobody else has the sockets any more.
    Alone,
}

impl Succession {
    pub(crate) fn on(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Ready if !self.serves && !std::mem::replace(&mut self.ready, true) => {
                vec![Action::SayReady]
            }
            Event::Released if !self.serves => {
                self.serves = true;
                vec![Action::TakeOver { orphaned: false }]
            }
            Event::Gone if !std::mem::replace(&mut self.alone, true) => {
                let serves = std::mem::replace(&mut self.serves, true);
                let orphaned = (!serves).then_some(Action::TakeOver { orphaned: true });
                orphaned.into_iter().chain([Action::Alone]).collect()
            }
            Event::Ready | Event::Released | Event::Gone => Vec::new(),
        }
    }

    /// Whether the predecessor is gone.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether what the predecessor had is this supervisor's.
    pub(crate) fn serves(&self) -> bool {
        self.serves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn one_that_is_released_takes_over_and_is_alone_later() {
        let mut succession = Succession::default();
        assert_eq!(succession.on(Event::Ready), [Action::SayReady]);
        let orphaned = false;
        let taken_over = [Action::TakeOver { orphaned }];
        assert_eq!(succession.on(Event::Released), taken_over);
        assert_eq!(succession.on(Event::Gone), [Action::Alone]);
    }

    #[test]
    fn an_orphan_goes_on() {
        let mut succession = Succession::default();
        let orphaned = true;
        let taken_over = [Action::TakeOver { orphaned }, Action::Alone];
        assert_eq!(succession.on(Event::Gone), taken_over);
        assert_eq!(succession.on(Event::Ready), []);
    }

    proptest! {
        #[test]
        fn it_takes_over_once_and_before_it_is_alone(
            events in prop::collection::vec(
                prop::sample::select(vec![Event::Ready, Event::Released, Event::Gone]), 0..20,
            ),
        ) {
            let mut succession = Succession::default();
            let mut done = Vec::new();
            for event in &events {
                done.extend(succession.on(*event));
            }
            let takes_over = |action: &Action| matches!(action, Action::TakeOver { .. });
            let overs = done.iter().filter(|action| takes_over(action)).count();
            prop_assert_eq!(overs, usize::from(events.iter().any(|event| *event != Event::Ready)));
            let alone = done.iter().filter(|action| **action == Action::Alone).count();
            prop_assert_eq!(alone, usize::from(events.contains(&Event::Gone)));
            if alone == 1 {
                let alone = done.iter().position(|action| *action == Action::Alone);
                prop_assert!(done.iter().position(takes_over) < alone);
            }
        }
    }
}
