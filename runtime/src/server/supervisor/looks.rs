//! How those who look into a running server ask its supervisor.

#[cfg(feature = "monitor")]
mod watched {
    use std::sync::Arc;

    use tokio::sync::{mpsc, oneshot};

    use crate::server::line::Role;
    use crate::server::supervisor::journal::Journal;
    use crate::server::supervisor::view::View;

    /// What is asked. A reply that nobody waits for any more is dropped.
    pub(crate) enum Look {
        /// How the server is doing.
        View(oneshot::Sender<View>),
        /// Something to do. Told is the number of the last entry of the journal before it.
        Act(Act, oneshot::Sender<u64>),
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Act {
        Restart(Role),
        Reload,
        Scale(usize),
        Stop,
    }

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
        journal: Arc<Journal>,
    }

    impl Looks {
        pub(crate) fn new() -> (Watcher, Looks) {
            let (sender, looks) = mpsc::unbounded_channel();
            let journal = Arc::new(Journal::default());
            let watcher = Watcher {
                looks: sender,
                journal: Arc::clone(&journal),
            };
            (watcher, Looks(Some(Watched { looks, journal })))
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

        pub(in crate::server::supervisor) fn journal(&self) -> Option<&Journal> {
            self.0.as_ref().map(|watched| &*watched.journal)
        }
    }
}
#[cfg(feature = "monitor")]
pub(crate) use watched::{Act, Look, Looks, Watcher};

/// Without the feature `monitor` nobody looks.
#[cfg(not(feature = "monitor"))]
mod unwatched {
    #[derive(Default)]
    pub(crate) struct Looks;

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
