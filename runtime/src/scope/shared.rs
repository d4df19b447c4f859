//! What a scope, its tasks and its handles share, and how what [`Members`] decides is carried out.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep};

use super::ending::{Failure, Name};
use super::members::{Effects, Key, Kind, Label, Members};
use super::rounds::Rounds;
use crate::Exit;
use crate::context::{Elapsed, Watch};
use crate::teardown::InnerPlace;

/// What reports call a scope.
pub(super) const NAME: &str = "scope";

/// Within which the whole of a scope has to end, and the error that it fails with otherwise.
pub(super) struct Deadline<E> {
    pub(super) limit: Duration,
    pub(super) elapsed: fn(Elapsed) -> E,
}

pub(super) struct Shared<E> {
    state: Mutex<State<E>>,
    /// Told when all are asked to end.
    asked: Notify,
    /// That the scope was entered on, if it was.
    runtime: OnceLock<Handle>,
    /// Told when supervised tasks may have to start again, or may start now.
    pub(super) restarts: Notify,
}

pub(super) struct State<E> {
    pub(super) members: Members<AbortHandle>,
    pub(super) rounds: Rounds<Instant>,
    pub(super) deadline: Option<Deadline<E>>,
    /// Tasks fail alone.
    pub(super) ignores: bool,
    failures: u64,
    /// What the scope is going to fail with.
    pub(super) first: Option<Failure<E>>,
    /// The body failed before any task did: its error is the first, and not the scope's to return.
    body_failed: bool,
    /// Why its tasks are asked to end.
    #[cfg(feature = "monitor")]
    why: Option<&'static str>,
    /// Whom to wake when a task has failed, or the last one has ended.
    owner: Option<Waker>,
    unsettled: Unsettled,
}

impl<E> Shared<E> {
    pub(super) fn state(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> State<E> {
    /// The first reason counts.
    #[cfg_attr(not(feature = "monitor"), expect(unused_variables))]
    fn because(&mut self, why: &'static str) {
        #[cfg(feature = "monitor")]
        self.why.get_or_insert(why);
    }
}

impl<E: fmt::Display + Send + 'static> Shared<E> {
    /// Why a task of its was cancelled.
    #[cfg(feature = "monitor")]
    pub(super) fn why(&self) -> &'static str {
        self.state().why.unwrap_or("it was aborted")
    }

    pub(super) fn new() -> Self {
        Shared {
            state: Mutex::new(State {
                members: Members::new(),
                rounds: Rounds::new(),
                deadline: None,
                ignores: false,
                failures: 0,
                first: None,
                body_failed: false,
                #[cfg(feature = "monitor")]
                why: None,
                owner: None,
                unsettled: Unsettled::default(),
            }),
            asked: Notify::new(),
            runtime: OnceLock::new(),
            restarts: Notify::new(),
        }
    }

    /// Carries out what `decide` decides. Nothing that it does happens under the lock: an abort may drop a task on
    /// the spot, and with it whatever it holds.
    fn act(
        self: &Arc<Self>,
        decide: impl FnOnce(&mut Members<AbortHandle>) -> Effects<AbortHandle>,
    ) {
        let (effects, owner) = {
            let mut state = self.state();
            let effects = decide(&mut state.members);
            let owner = if effects.over {
                state.owner.take()
            } else {
                None
            };
            (effects, owner)
        };
        self.carry_out(effects, owner);
    }

    fn carry_out(self: &Arc<Self>, effects: Effects<AbortHandle>, owner: Option<Waker>) {
        if effects.asked {
            self.asked.notify_waiters();
        }
        for task in effects.abort {
            task.abort();
        }
        if let Some(grace) = effects.grace {
            self.start_timer(Due::Abort, move || sleep(grace));
        }
        if let Some(owner) = owner {
            owner.wake();
        }
    }

    /// The runtime for its tasks, if it was entered on one.
    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.runtime.get()
    }

    /// Takes a task in, if it isn't too late for that.
    pub(super) fn admit(&self, kind: Kind, label: Label) -> Option<Key> {
        self.state().members.admit(kind, label)
    }

    pub(super) fn started(&self, key: Key, abort: AbortHandle) {
        let abort = self.state().members.started(key, abort);
        if let Some(task) = abort {
            task.abort();
        }
    }

    /// A task has ended, whose contexts were entered in `place`.
    pub(super) fn ended(self: &Arc<Self>, key: Key, place: InnerPlace) {
        if place.has_pending() {
            self.state().unsettled.add(place);
        }
        self.act(|members| members.ended(key));
    }

    pub(super) fn cancel(self: &Arc<Self>) {
        self.state().because("the scope was cancelled");
        self.act(Members::cancel);
    }

    /// A task has failed: the first one ends the scope, the others are only reported.
    pub(super) fn fail(self: &Arc<Self>, name: &Name, failure: Failure<E>) {
        let mut state = self.state();
        state.failures += 1;
        if state.ignores {
            drop(state);
            failure.report(name, format_args!(""));
        } else {
            self.record(state, failure, |failure| {
                failure.report(name, format_args!(""))
            });
        }
    }

    fn record(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State<E>>,
        failure: Failure<E>,
        later: impl FnOnce(Failure<E>),
    ) {
        if state.body_failed || state.first.is_some() {
            drop(state);
            return later(failure);
        }
        state.first = Some(failure);
        state.because("another task of the scope has failed");
        let effects = state.members.cancel();
        let owner = state.owner.take();
        drop(state);
        self.carry_out(effects, owner);
    }

    /// A run of a supervised task has failed, and there will be another one.
    pub(super) fn failed_run(&self) {
        self.state().failures += 1;
    }

    pub(super) fn failures(&self) -> u64 {
        self.state().failures
    }

    pub(super) fn is_asked(&self) -> bool {
        self.state().members.is_asked()
    }

    /// Waits until all are asked to end.
    pub(super) async fn asked(&self) {
        let mut asked = pin!(self.asked.notified());
        asked.as_mut().enable();
        if !self.is_asked() {
            asked.await;
        }
    }

    /// The scope is entered.
    pub(super) fn open(self: &Arc<Self>) {
        if let Ok(runtime) = Handle::try_current() {
            // Nobody else sets it.
            let _ = self.runtime.set(runtime);
        }
        let limit = self.limit();
        if let Some(limit) = limit {
            // Made here, so that a runtime without a time driver panics here.
            let sleep = sleep(limit);
            self.start_timer(Due::Deadline, move || sleep);
        }
    }

    fn limit(&self) -> Option<Duration> {
        let state = self.state();
        state.deadline.as_ref().map(|deadline| deadline.limit)
    }

    fn start_timer(self: &Arc<Self>, due: Due, sleep: impl FnOnce() -> Sleep + Send + 'static) {
        let Some(key) = self.admit(Kind::Timer, Label::new(NAME.into())) else {
            return;
        };
        let timer = Timer {
            shared: Arc::clone(self),
            key,
            due,
        };
        let Some(runtime) = self.runtime() else {
            return;
        };
        let task = runtime.spawn(async move {
            let timer = timer;
            sleep().await;
            if let Due::Deadline = timer.due {
                timer.shared.late();
            }
        });
        self.started(key, task.abort_handle());
    }

    /// The deadline has passed.
    fn late(self: &Arc<Self>) {
        let deadline = self
            .state()
            .deadline
            .as_ref()
            .map(|deadline| (deadline.limit, deadline.elapsed));
        if let Some((limit, elapsed)) = deadline {
            self.state().because("the deadline of the scope has passed");
            let error = elapsed(Elapsed::new(NAME, "tasks", limit));
            self.record(self.state(), Failure::Error(error), drop);
        }
    }

    /// The body has ended: waits for all tasks and for the teardowns that they have left, and gives the first
    /// error.
    pub(super) async fn end(self: &Arc<Self>, exit: &Exit) -> Result<(), E> {
        self.state().because(match exit.is_success() {
            true => "the body of the scope has ended",
            false => "the body of the scope has failed or was cancelled",
        });
        self.act(|members| members.body_ended(exit.is_success()));
        poll_fn(|cx| self.poll_over(cx)).await;
        let unsettled = std::mem::take(&mut self.state().unsettled);
        unsettled.settled().await;
        let first = self.state().first.take();
        match first {
            None => Ok(()),
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(panic)) => resume_unwind(panic),
        }
    }

    fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_until(cx, |state| state.members.is_over())
    }

    fn poll_until(&self, cx: &mut Context<'_>, is_done: impl Fn(&State<E>) -> bool) -> Poll<()> {
        let mut state = self.state();
        if is_done(&state) {
            return Poll::Ready(());
        }
        let spare = match &mut state.owner {
            Some(owner) if owner.will_wake(cx.waker()) => None,
            owner => owner.replace(cx.waker().clone()),
        };
        drop(state);
        // May drop a future, and with it a guard.
        drop(spare);
        Poll::Pending
    }

    /// Ready with what the scope was going to fail with, once a task has failed.
    #[cfg(feature = "server")]
    pub(super) fn poll_first(&self, cx: &mut Context<'_>) -> Poll<Failure<E>> {
        std::task::ready!(self.poll_until(cx, |state| state.first.is_some()));
        match self.state().first.take() {
            Some(first) => Poll::Ready(first),
            None => Poll::Pending,
        }
    }

    /// The scope's own function was dropped half-way, or has come to its end.
    pub(super) fn cut(self: &Arc<Self>) {
        let is_over = self.state().members.is_over();
        if !is_over {
            self.state().because("the scope was dropped");
            self.act(Members::abort);
            self.act(|members| members.body_ended(false));
        }
        // It may have been dropped while it waited for the teardowns that its tasks have left.
        let first = self.state().first.take();
        if let Some(first) = first {
            first.report(&Name::Borrowed(""), format_args!(""));
        }
    }
}

impl<E: fmt::Display + Send + 'static> Watch for Shared<E> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn poll_failed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_until(cx, |state| state.first.is_some())
    }

    fn left(self: Arc<Self>, exit: &Exit) {
        let mut state = self.state();
        state.body_failed |=
            state.first.is_none() && matches!(exit, Exit::Failed(_) | Exit::Panicked);
        state.because("the body of the scope has failed or was cancelled");
        let effects = state.members.cancel();
        drop(state);
        self.carry_out(effects, None);
    }
}

/// The places of tasks that have ended, and have left teardowns.
#[derive(Default)]
struct Unsettled {
    places: Vec<InnerPlace>,
    /// With how many, those are taken out that have settled by then.
    full: usize,
}

impl Unsettled {
    fn add(&mut self, place: InnerPlace) {
        if self.places.len() >= self.full {
            self.places.retain(InnerPlace::has_pending);
            self.full = 16.max(2 * self.places.len());
        }
        self.places.push(place);
    }

    async fn settled(self) {
        for place in self.places {
            let mut wait = None;
            poll_fn(|cx| place.poll_settled(&mut wait, cx)).await;
        }
    }
}

/// What happens when a timer has passed.
#[derive(Clone, Copy)]
enum Due {
    /// The grace: all are aborted. Also if it can't be waited for.
    Abort,
    Deadline,
}

/// A timer that runs, or waits for its first poll.
struct Timer<E: fmt::Display + Send + 'static> {
    shared: Arc<Shared<E>>,
    key: Key,
    due: Due,
}

impl<E: fmt::Display + Send + 'static> Drop for Timer<E> {
    fn drop(&mut self) {
        if let Due::Abort = self.due {
            self.shared.act(Members::abort);
        }
        self.shared.act(|members| members.ended(self.key));
    }
}
