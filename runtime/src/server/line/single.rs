//! What is said about timers of which one worker at a time runs each.

/// What a worker asks for, for one of its timers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "process", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum SingleCall {
    /// To be the one that runs the timer of this name, or to stay it. Timers of one worker are told apart by `owner`.
    Hold { name: String, owner: String },
    /// To keep in mind how far it is.
    Record {
        name: String,
        token: u64,
        reached: Reached,
    },
    /// That another may run it.
    Release { name: String, token: u64 },
}

impl SingleCall {
    /// How many bytes there are to it.
    #[cfg(feature = "process")]
    pub(crate) fn len(&self) -> usize {
        match self {
            SingleCall::Hold { name, owner } => name.len() + owner.len(),
            SingleCall::Record { name, .. } | SingleCall::Release { name, .. } => name.len(),
        }
    }
}

/// How far a timer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "process", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Reached {
    /// In nanoseconds since 1970.
    pub(crate) due: u64,
    /// Otherwise it was started.
    pub(crate) done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "process", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum SingleAnswer {
    /// It runs the timer, under a token that is greater than all before, from what was recorded last on.
    Held {
        token: u64,
        last: Option<Reached>,
    },
    /// Another runs it. When that may be over, the worker is told.
    Taken,
    Done,
    /// Another has run the timer since this token was given out.
    Stale,
    Refused(String),
}

/// Takes an answer to whoever waits for it.
pub(crate) struct Reply(Box<dyn FnOnce(SingleAnswer) + Send>);

impl Reply {
    /// `take` must not block.
    pub(crate) fn new(take: impl FnOnce(SingleAnswer) + Send + 'static) -> Reply {
        Reply(Box::new(take))
    }

    pub(crate) fn send(self, answer: SingleAnswer) {
        (self.0)(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::mpsc;

    #[test]
    #[cfg(feature = "process")]
    fn a_call_is_as_long_as_its_texts() {
        let name = || "nightly".to_owned();
        let reached = Reached {
            due: 1_800_000_000_000_000_000,
            done: true,
        };
        let record = SingleCall::Record {
            name: name(),
            token: 1,
            reached,
        };
        let hold = SingleCall::Hold {
            name: name(),
            owner: "1.2".to_owned(),
        };
        let release = SingleCall::Release {
            name: name(),
            token: 1,
        };
        assert_eq!([hold.len(), record.len(), release.len()], [10, 7, 7]);
    }

    #[test]
    fn an_answer_reaches_whoever_waits_for_it() {
        let (sender, answers) = mpsc::channel();
        Reply::new(move |answer| sender.send(answer).unwrap()).send(SingleAnswer::Taken);
        assert_eq!(answers.try_recv(), Ok(SingleAnswer::Taken));
    }

    #[test]
    fn a_tick_that_is_done_is_further_than_one_that_was_started() {
        let reached = |due, done| Reached { due, done };
        let order = [
            reached(1, false),
            reached(1, true),
            reached(2, false),
            reached(2, true),
        ];
        assert!(order.is_sorted_by(|one, next| one < next));
    }
}
