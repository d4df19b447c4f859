//! What is told of ticks to those who look into a running server.

#[cfg(feature = "monitor")]
mod watched {
    use crate::census::{self, Kind, Task};
    use crate::timer::failure::TickError;
    use crate::timer::schedule::Nanos;
    use crate::timer::shared::{Shared, nanos};
    use crate::timer::verdict::Verdict;

    /// A tick that somebody may look at.
    #[derive(Default)]
    pub(in crate::timer) struct Watching(Option<Task>);

    impl Watching {
        /// A tick begins, this late.
        pub(in crate::timer) fn begin(shared: &Shared, lateness: Nanos) -> Watching {
            let task = census::begin(Kind::Tick, shared.name());
            if let Some(details) = shared.details().filter(|_| task.is_some()) {
                details.begun(lateness);
            }
            Watching(task)
        }

        pub(in crate::timer) fn is_on(&self) -> bool {
            self.0.is_some()
        }

        /// It has ended; if it was cancelled, for that reason.
        pub(in crate::timer) fn end(self, shared: &Shared, verdict: &Verdict, why: &str) {
            if let Verdict::Failed(error) = verdict {
                census::happened("tick", || {
                    format!("a tick of `{}` failed: {error}", shared.name())
                });
            }
            let Some(task) = self.0 else { return };
            if let Some(details) = shared.details() {
                details.ended(nanos(task.age()));
            }
            match verdict {
                Verdict::Completed => task.complete(),
                Verdict::Cancelled => task.cancel(why),
                Verdict::Failed(TickError::Panicked(panic)) => task.panic(panic),
                Verdict::Failed(error) => task.fail(&error.to_string()),
            }
        }
    }
}
#[cfg(feature = "monitor")]
pub(super) use watched::Watching;

/// Without the feature `monitor` nobody looks.
#[cfg(not(feature = "monitor"))]
mod unwatched {
    use crate::timer::schedule::Nanos;
    use crate::timer::shared::Shared;
    use crate::timer::verdict::Verdict;

    /// With a field as the other one has, so that both are made alike: clippy objects to `default()` for a unit struct.
    #[derive(Default)]
    pub(in crate::timer) struct Watching(());

    impl Watching {
        pub(in crate::timer) fn begin(_: &Shared, _: Nanos) -> Watching {
            Watching(())
        }

        pub(in crate::timer) fn is_on(&self) -> bool {
            false
        }

        pub(in crate::timer) fn end(self, _: &Shared, _: &Verdict, _: &str) {}
    }
}
#[cfg(not(feature = "monitor"))]
pub(super) use unwatched::Watching;
