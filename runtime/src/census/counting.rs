//! Counting, on the thread where something happens.

#[cfg(feature = "scope")]
use std::panic::Location;

use super::contexts::{self, Open};
use super::member::count;
use super::tasks::{self, Kind, Task};

/// Whether anything is counted on this thread.
#[cfg(feature = "timer")]
pub(crate) fn is_taken() -> bool {
    count(|_| ()).is_some()
}

/// A context of this function is entered.
#[inline(always)]
pub(crate) fn entered(name: &'static str) -> Option<Open> {
    count(|member| contexts::OfThread::entered(&member.contexts, name))
}

/// A setup or a teardown of this function has failed.
#[cold]
pub(crate) fn failed(name: &'static str) {
    count(|member| member.contexts.failed(name));
}

/// A task of this name begins.
pub(crate) fn begin(kind: Kind, name: &str) -> Option<Task> {
    count(|member| tasks::OfThread::begin(&member.tasks, kind, name))
}

/// A task begins that was spawned there.
#[cfg(feature = "scope")]
pub(crate) fn begin_at(kind: Kind, place: &'static Location<'static>) -> Option<Task> {
    count(|member| tasks::OfThread::begin_at(&member.tasks, kind, place))
}

/// Something has gone wrong.
#[cold]
pub(crate) fn happened(kind: &'static str, text: impl FnOnce() -> String) {
    count(|member| member.happenings.add(kind, text()));
}
