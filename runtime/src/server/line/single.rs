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
