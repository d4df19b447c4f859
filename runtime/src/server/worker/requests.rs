//! The requests of an accept loop's connections, counted by whoever understands what they say.

use std::cell::Cell;

#[derive(Debug, Default)]
pub(crate) struct Requests {
    in_flight: Cell<usize>,
    refused: Cell<u64>,
}

impl Requests {
    /// How many are being handled or answered.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// How many connections were closed because of what the client sent or didn't send.
    pub(super) fn refused(&self) -> u64 {
        self.refused.get()
    }

    #[cfg(feature = "http")]
    pub(crate) fn began(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    #[cfg(feature = "http")]
    pub(crate) fn ended(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }

    #[cfg(feature = "http")]
    pub(crate) fn refuse(&self) {
        self.refused.set(self.refused.get() + 1);
    }
}
