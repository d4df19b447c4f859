//! The requests of an accept loop's connections, counted by whoever understands what they say.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;

tokio::task_local! {
    /// Of the accept loop whose connection is handled.
    static OWN: Rc<Requests>;
}

#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Somebody counts here.
    are_counted: Cell<bool>,
    in_flight: Cell<usize>,
    refused: Cell<u64>,
}

impl Requests {
    /// Has what `handler` calls count here.
    pub(super) fn of<F: Future>(self: Rc<Requests>, handler: F) -> impl Future<Output = F::Output> {
        OWN.scope(self, handler)
    }

    /// How many are being handled or answered, if somebody counts them.
    pub(super) fn in_flight(&self) -> Option<usize> {
        self.are_counted.get().then(|| self.in_flight.get())
    }

    /// How many connections were closed because of what the client sent or didn't send.
    pub(super) fn refused(&self) -> u64 {
        self.refused.get()
    }
}

#[cfg(feature = "http")]
impl Requests {
    /// Of the accept loop whose connection is handled in this task; nobody's in another one.
    pub(crate) fn current() -> Rc<Requests> {
        let requests = OWN.try_with(Rc::clone).unwrap_or_default();
        requests.are_counted.set(true);
        requests
    }

    pub(crate) fn began(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub(crate) fn ended(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }

    pub(crate) fn refuse(&self) {
        self.refused.set(self.refused.get() + 1);
    }
}
