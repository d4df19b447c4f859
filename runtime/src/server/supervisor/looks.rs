//! How those who look into a running server ask its supervisor.

#[cfg(feature = "monitor")]
mod watched {
    use std::sync::Arc;

    use tokio::sync::{mpsc, oneshot};

    use crate::server::line::{Query, Role};
    use crate::server::supervisor::journal::Journal;
    use crate::server::supervisor::policy::WorkerId;
    use crate::server::supervisor::view::View;

    /// What is asked. A reply that nobody waits for any more is dropped.
    pub(crate) enum Look {
        /// How the server is doing.
        View(oneshot::Sender<View>),
        /// A question to a worker, and how it is answered.
        Query(WorkerId, Query, oneshot::Sender<Answered>),
        /// Something to do. Told is the number of the last entry of the journal before it.
        Act(Act, oneshot::Sender<u64>),
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Act {
        Restart(Role),
        Reload,
        Scale(usize),
        Upgrade,
        /// As a first stop signal does.
        Drain,
        /// Without the delay.
        Stop,
    }

    /// An answer, or that there will be none because too much has yet to be answered.
    pub(crate) type Answered = Result<Vec<u8>, TooMany>;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct TooMany;

    /// A question that a worker has yet to answer.
    pub(in crate::server::supervisor) struct Asking {
        pub(in crate::server::supervisor) of: WorkerId,
        pub(in crate::server::supervisor) takes_its_time: bool,
        pub(in crate::server::supervisor) reply: oneshot::Sender<Answered>,
    }

    /// The last figures of a worker, in JSON.
    pub(crate) type Last = (WorkerId, Role, Vec<u8>);

    /// Asks a supervisor, from any thread.
    #[derive(Clone)]
    pub(crate) struct Watcher {
        looks: mpsc::UnboundedSender<Look>,
        pub(crate) journal: Arc<Journal>,
    }

    impl Watcher {
        /// `None` once the server has ended.
        pub(crate) async fn view(&self) -> Option<View> {
            let (reply, view) = oneshot::channel();
            self.looks.send(Look::View(reply)).ok()?;
            view.await.ok()
        }

        /// Until the server has ended.
        pub(crate) async fn ended(&self) {
            self.looks.closed().await;
        }

        /// What a worker answers; `None` when it has ended.
        pub(crate) async fn query(&self, of: WorkerId, query: Query) -> Option<Answered> {
            let (reply, answer) = oneshot::channel();
            self.looks.send(Look::Query(of, query, reply)).ok()?;
            answer.await.ok()
        }

        /// As [`Look::Act`]; `None` once the server has ended.
        pub(crate) async fn act(&self, act: Act) -> Option<u64> {
            let (reply, before) = oneshot::channel();
            self.looks.send(Look::Act(act, reply)).ok()?;
            before.await.ok()
        }
    }

    /// What a supervisor is asked, if anybody may.
    #[derive(Default)]
    pub(crate) struct Looks(Option<Watched>);

    struct Watched {
        looks: mpsc::UnboundedReceiver<Look>,
        lasts: mpsc::UnboundedSender<Last>,
        journal: Arc<Journal>,
    }

    impl Looks {
        /// Beside who asks and who is asked, how the last figures come of workers that end.
        pub(crate) fn new() -> (Watcher, mpsc::UnboundedReceiver<Last>, Looks) {
            let (sender, looks) = mpsc::unbounded_channel();
            let (lasts, last_figures) = mpsc::unbounded_channel();
            let journal = Arc::new(Journal::default());
            let watcher = Watcher {
                looks: sender,
                journal: Arc::clone(&journal),
            };
            let watched = Watched {
                looks,
                lasts,
                journal,
            };
            (watcher, last_figures, Looks(Some(watched)))
        }

        /// The next one. Cancel-safe.
        pub(in crate::server::supervisor) async fn next(&mut self) -> Look {
            match &mut self.0 {
                Some(watched) => match watched.looks.recv().await {
                    Some(look) => look,
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        }

        pub(in crate::server::supervisor) fn tell_last(&self, last: Last) {
            if let Some(watched) = &self.0 {
                // Who watched may have had to give up.
                let _ = watched.lasts.send(last);
            }
        }

        pub(in crate::server::supervisor) fn journal(&self) -> Option<&Journal> {
            self.0.as_ref().map(|watched| &*watched.journal)
        }
    }
}
#[cfg(feature = "monitor")]
pub(super) use watched::Asking;
#[cfg(feature = "monitor")]
pub(crate) use watched::{Act, Answered, Last, Look, Looks, TooMany, Watcher};

/// Without the feature `monitor` nobody looks.
#[cfg(not(feature = "monitor"))]
mod unwatched {
    #[derive(Default)]
    pub(crate) struct Looks(());

    pub(in crate::server::supervisor) type Look = std::convert::Infallible;

    impl Looks {
        pub(in crate::server::supervisor) async fn next(&mut self) -> Look {
            std::future::pending().await
        }
    }
}
#[cfg(not(feature = "monitor"))]
pub(super) use unwatched::Look;
#[cfg(not(feature = "monitor"))]
pub(crate) use unwatched::Looks;
