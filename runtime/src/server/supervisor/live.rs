//! A living worker, as the supervisor sees it.

#[cfg(feature = "monitor")]
use std::time::Duration;

use super::pulse::Pulse;
use super::seats::Seat;
use super::wear::Wear;
use crate::server::line::Role;

pub(super) struct Live {
    pub(super) role: Role,
    /// It has an event loop, which has begun to turn: a process may take its time before, and a synchronous extra
    /// never has one.
    pub(super) turning: bool,
    pub(super) ready: bool,
    /// It was to stop, and got no socket any more.
    pub(super) refused: bool,
    /// It has told that it comes to its end, and why.
    pub(super) ending: bool,
    pub(super) pulse: Pulse,
    #[cfg(feature = "monitor")]
    pub(super) history: History,
    pub(super) wear: Wear,
    pub(super) seat: Seat,
}

/// What only those want to know who look into the server.
#[cfg(feature = "monitor")]
pub(super) struct History {
    pub(super) generation: u64,
    pub(super) image: u64,
    /// The state that it was last seen in, and since when.
    pub(super) state: &'static str,
    pub(super) since: Duration,
}

impl Live {
    /// Whether it has failed if its event loop doesn't answer: it is ready, and neither has it come to its end nor has
    /// anybody asked it to stop.
    pub(super) fn must_answer(&self) -> bool {
        self.ready && !self.ending && !self.seat.is_stopping()
    }
}
