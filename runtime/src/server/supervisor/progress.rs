//! How far a server has come, for those who watch it from outside.

use std::sync::Arc;

use tokio::sync::watch;

use crate::server::Addresses;

#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// All workers and extras have been ready.
    pub(crate) ready: bool,
    /// It has been asked to stop, or stops for another reason: whoever sends requests is to send them elsewhere.
    pub(crate) going: bool,
    pub(crate) addresses: Addresses,
    /// The first failure that was told.
    pub(crate) failure: Option<String>,
    /// The exit code, once the server has ended.
    pub(crate) code: Option<i32>,
}

/// Where the supervisor's side tells it.
#[derive(Clone)]
pub(crate) struct Teller(Arc<watch::Sender<Progress>>);

impl Teller {
    pub(crate) fn new() -> (Teller, watch::Receiver<Progress>) {
        let (teller, watcher) = watch::channel(Progress::default());
        (Teller(Arc::new(teller)), watcher)
    }

    /// Whether anybody wants to know.
    pub(crate) fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    pub(crate) fn ready(&self) {
        self.0.send_modify(|progress| progress.ready = true);
    }

    pub(crate) fn going(&self) {
        self.0
            .send_if_modified(|progress| !std::mem::replace(&mut progress.going, true));
    }

    pub(crate) fn listens(&self, addresses: Addresses) {
        self.0.send_if_modified(|progress| {
            let changed = progress.addresses != addresses;
            progress.addresses = addresses;
            changed
        });
    }

    /// The first one stays.
    pub(crate) fn failed(&self, failure: impl FnOnce() -> String) {
        self.0.send_modify(|progress| {
            progress.failure.get_or_insert_with(failure);
        });
    }

    /// The first code stays: of a server that was given up, it is what has been told.
    pub(crate) fn ended(&self, code: i32) {
        self.0.send_modify(|progress| {
            progress.code.get_or_insert(code);
        });
    }
}
