//! The two families of public types, owned and borrowed. They differ in a lifetime and in what becomes of a
//! guard that is dropped, so both are written once.

use std::fmt;
use std::future::IntoFuture;
use std::ops::{Deref, DerefMut};
use std::panic::resume_unwind;
use std::pin::Pin;
#[cfg(feature = "scope")]
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use super::fault::{after, into_body, report};
use super::frame::Frame;
use super::futures::{Entered, Entering, Inside, Leaving};
use super::passage::{BySlot, ByThread, Yielder};
#[cfg(feature = "scope")]
use super::watch::Watch;
use super::watch::{Run, watched};
use super::{Always, Elapsed, Exit, Outcome, Return};
use crate::panic;
use crate::report::in_full;

macro_rules! surface {
    (debug $generics:tt $args:tt $($ty:ident)*) => {
        $(surface!(debug_one $generics $args $ty);)*
    };
    (debug_one [$($generics:tt)*] [$($args:tt)*] $ty:ident) => {
        // Nothing is asked of the value, so that `unwrap_err` is there whatever it is.
        impl<$($generics)* R: Return> fmt::Debug for $ty<$($args)* R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($ty)).finish_non_exhaustive()
            }
        }
    };
    (
        impl [$($generics:tt)*] for [$($args:tt)*] with $life:lifetime,
        $(#[$context_doc:meta])* context $Context:ident,
        $(#[$guard_doc:meta])* guard $Guard:ident,
        $(#[$enter_doc:meta])* enter $Enter:ident,
        $(#[$leave_doc:meta])* leave $Leave:ident,
    ) => {
        $(#[$context_doc])*
        #[must_use = "a context does nothing unless it is entered: `.await` it, or call `.with(..)`"]
        pub struct $Context<$($generics)* R: Return>(pub(super) Entering<$life, R>);

        $(#[$guard_doc])*
        #[must_use = "a guard that is dropped at once tears its context down at once; bind it to a variable"]
        pub struct $Guard<$($generics)* R: Return>(pub(super) Entered<$life, R>);

        $(#[$enter_doc])*
        #[must_use = "nothing is set up unless it is awaited"]
        pub struct $Enter<$($generics)* R: Return>(Entering<$life, R>);

        $(#[$leave_doc])*
        #[must_use = "the teardown runs detached, and its error is lost, unless it is awaited"]
        pub struct $Leave<$($generics)* R: Return>(pub(super) Leaving<$life, R>);

        impl<$($generics)* R: Return> $Context<$($args)* R> {
            /// Sets up: runs the function as far as its yield.
            ///
            /// # Errors
            ///
            /// What the function fails with before its yield, or at its `setup_timeout`.
            ///
            /// # Panics
            ///
            /// If the function panics before its yield, or ends there without an error.
            ///
            /// # Cancellation
            ///
            /// Dropped before the yield, the function's local variables are dropped and nothing is torn
            /// down; with [`finish_setup`](Context::finish_setup) the setup is finished and torn down, detached.
            #[inline(always)]
            pub fn enter(self) -> $Enter<$($args)* R> {
                $Enter(self.0)
            }
        }

        impl<$($generics)* T, E> $Context<$($args)* Result<T, E>>
        where
            E: From<Elapsed>,
        {
            /// Bounds the setup: when `limit` has passed, it is given up and the enter fails. With
            /// [`finish_setup`](Context::finish_setup) it goes on nonetheless, detached and without a limit.
            ///
            /// Entered where tokio has no time driver, the context panics.
            pub fn setup_timeout(self, limit: Duration) -> Self {
                $Context(self.0.set(|meta| meta.limits(elapsed).setup = Some(limit)))
            }

            /// Bounds the teardown, detached or not: when `limit` has passed, it is given up and the exit
            /// fails. The time counts from when the teardown begins; waiting for what is inside the context,
            /// and was dropped, is not part of it.
            ///
            /// Left where tokio has no time driver, the context panics.
            pub fn teardown_timeout(self, limit: Duration) -> Self {
                $Context(self.0.set(|meta| meta.limits(elapsed).teardown = Some(limit)))
            }
        }

        impl<$($generics)* R: Return> IntoFuture for $Context<$($args)* R> {
            type Output = R::Entered<$Guard<$($args)* R>>;
            type IntoFuture = $Enter<$($args)* R>;

            #[inline(always)]
            fn into_future(self) -> Self::IntoFuture {
                self.enter()
            }
        }

        impl<$($generics)* R: Return> Future for $Enter<$($args)* R> {
            type Output = R::Entered<$Guard<$($args)* R>>;

            #[inline(always)]
            fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
                self.0.poll_guard(cx, $Guard)
            }
        }

        impl<$($generics)* R: Return> Future for $Leave<$($args)* R> {
            type Output = R::Body;

            #[inline(always)]
            fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<R::Body> {
                self.0.poll_left(cx).map(into_body::<R>)
            }
        }

        impl<$($generics)* R: Return> $Guard<$($args)* R> {
            /// Tears down and waits for it, with [`Exit::Completed`].
            ///
            /// Before and after its function's teardown it waits for the pending teardowns of what was entered
            /// inside the context, and for no others; see [`teardown`](crate::teardown).
            ///
            /// # Errors
            ///
            /// What the function fails with after its yield, or at its `teardown_timeout`.
            ///
            /// # Panics
            ///
            /// If the teardown does.
            ///
            /// # Cancellation
            ///
            /// Dropped half-way or not awaited at all, the same teardown goes on as that of a dropped
            /// guard does, with the same exit.
            #[inline(always)]
            pub fn exit(self) -> $Leave<$($args)* R> {
                self.exit_with(Exit::Completed)
            }

            /// Like [`exit`](Self::exit), with another reason for leaving. With one that is no success, it first
            /// [settles](crate::settle) the place that it is awaited in.
            #[inline(always)]
            pub fn exit_with(self, exit: Exit) -> $Leave<$($args)* R> {
                let settles = !exit.is_success();
                let leaving = self.0.leave(exit);
                $Leave(if settles { leaving.settle() } else { leaving })
            }
        }

        impl<$($generics)* R: Return> Deref for $Guard<$($args)* R> {
            type Target = R::Value;

            #[inline(always)]
            fn deref(&self) -> &R::Value {
                self.0.value()
            }
        }

        impl<$($generics)* R: Return> DerefMut for $Guard<$($args)* R> {
            #[inline(always)]
            fn deref_mut(&mut self) -> &mut R::Value {
                self.0.value_mut()
            }
        }

        surface!(debug [$($generics)*] [$($args)*] $Context $Guard $Enter $Leave);

        impl<$($generics)* T, E> $Guard<$($args)* Result<T, E>> {
            /// Leaves with the reason that `result` gives, [`Exit::Completed`] or [`Exit::Failed`], and gives
            /// `result` back once the teardown has ended. After an error it first [settles](crate::settle) the
            /// place that it is awaited in: what a `?` has dropped there is torn down before this context.
            ///
            /// # Errors
            ///
            /// The error in `result`; else that of the teardown. If both failed, the teardown's error is
            /// [reported](crate::teardown).
            ///
            /// # Panics
            ///
            /// If the teardown does and `result` is no error; a panic beside an error is reported.
            ///
            /// # Cancellation
            ///
            /// As of [`exit`](Self::exit).
            pub fn exit_as<U, B>(self, result: Result<U, B>) -> impl Future<Output = Result<U, B>>
            where
                B: From<E> + fmt::Display,
            {
                let leaving = self.0.leave(Exit::of(&result));
                let leaving = if result.is_ok() { leaving } else { leaving.settle() };
                async move { after::<Result<T, E>, _, _>(result, leaving.await, |torn_down| Ok(torn_down?)) }
            }
        }

        impl<$($generics)* T> $Guard<$($args)* Always<T>> {
            /// Leaves with the reason that `result` gives, [`Exit::Completed`] or [`Exit::Failed`], and gives
            /// `result` back once the teardown has ended. After an error it first [settles](crate::settle) the
            /// place that it is awaited in: what a `?` has dropped there is torn down before this context.
            ///
            /// # Errors
            ///
            /// The error in `result`.
            ///
            /// # Panics
            ///
            /// If the teardown does and `result` is no error; a panic beside an error is reported.
            ///
            /// # Cancellation
            ///
            /// As of [`exit`](Self::exit).
            pub fn exit_as<U, B>(self, result: Result<U, B>) -> impl Future<Output = Result<U, B>>
            where
                B: fmt::Display,
            {
                let leaving = self.0.leave(Exit::of(&result));
                let leaving = if result.is_ok() { leaving } else { leaving.settle() };
                async move { after::<Always<T>, _, _>(result, leaving.await, Ok) }
            }
        }

        impl<$($generics)* T, E> $Context<$($args)* Result<T, E>> {
            /// Sets up, runs `body` with the value, and tears down, whatever becomes of `body`.
            ///
            /// Where inference needs it, end the body in `Ok::<_, E>(..)`. Inside a spawned task rustc rejects
            /// an async closure over `&mut T` when `T` carries a lifetime, even `'static`
            /// ("`AsyncFnOnce` is not general enough"), a group of such `T` included: use the guard and
            /// `exit_as` there.
            ///
            /// # Errors
            ///
            /// That of the setup, else that of `body`, else that of the teardown. If `body` and teardown both
            /// failed, the teardown's error is [reported](crate::teardown).
            ///
            /// # Panics
            ///
            /// If `body` does, once the teardown has run with [`Exit::Panicked`]; if setup or teardown do.
            ///
            /// # Cancellation
            ///
            /// Dropped while `body` runs, the context is torn down like that of a dropped guard; dropped
            /// during the teardown, the same teardown goes on, detached.
            pub async fn with<U, B>(
                self,
                body: impl AsyncFnOnce(&mut T) -> Result<U, B>,
            ) -> Result<U, B>
            where
                B: From<E> + fmt::Display,
            {
                let mut guard = self.enter().await?;
                let watch = guard.0.watch();
                let place = guard.0.beside();
                let (mut run, place) = Inside::new(place, watched(watch, body(&mut guard))).await;
                match &mut run {
                    Ok(Run::Ended(Ok(_))) => guard.0.give_back(Exit::Completed),
                    Ok(Run::Ended(Err(error))) => guard.0.give_back(Exit::Failed(in_full(error))),
                    Ok(Run::Interrupted(ended)) => {
                        // Nobody gets it, so what it holds isn't held while the context is torn down.
                        if let Some(Err(error)) = ended.take() {
                            let context = guard.0.name();
                            panic::guarded(|| {
                                tracing::error!(context, "the body of `{context}` failed too: {error:#}");
                            });
                        }
                        guard.0.give_back(Exit::Cancelled)
                    }
                    Err(_) => guard.0.give_back(Exit::Panicked),
                }
                let left = guard.0.left(place).await;
                match run {
                    Ok(Run::Ended(result)) => after::<Result<T, E>, _, _>(result, left, |torn_down| Ok(torn_down?)),
                    Ok(Run::Interrupted(_)) => {
                        into_body::<Result<T, E>>(left)?;
                        unreachable!("the body is interrupted when the teardown is going to fail")
                    }
                    Err(panic) => {
                        report::<Result<T, E>>(left);
                        resume_unwind(panic)
                    }
                }
            }
        }

        impl<$($generics)* T> $Context<$($args)* Always<T>> {
            /// Sets up, runs `body` with the value, and tears down, whatever becomes of `body`.
            ///
            /// The exit is [`Exit::Completed`] whatever `body` gives; to fail, use the guard and
            /// [`exit_as`]($Guard::exit_as). So do inside a spawned task when `T` carries a lifetime, even
            /// `'static`: rustc rejects an async closure over `&mut T` there ("`AsyncFnOnce` is not general
            /// enough"), a group of such `T` included.
            ///
            /// # Panics
            ///
            /// If `body` does, once the teardown has run with [`Exit::Panicked`]; if setup or teardown do.
            ///
            /// # Cancellation
            ///
            /// Dropped while `body` runs, the context is torn down like that of a dropped guard; dropped
            /// during the teardown, the same teardown goes on, detached.
            pub async fn with<U>(self, body: impl AsyncFnOnce(&mut T) -> U) -> U {
                let mut guard = self.enter().await;
                let place = guard.0.beside();
                let (run, place) = Inside::new(place, body(&mut guard)).await;
                match &run {
                    Ok(_) => guard.0.give_back(Exit::Completed),
                    Err(_) => guard.0.give_back(Exit::Panicked),
                }
                let left = guard.0.left(place).await;
                match run {
                    Ok(output) => {
                        into_body::<Always<T>>(left);
                        output
                    }
                    Err(panic) => {
                        report::<Always<T>>(left);
                        resume_unwind(panic)
                    }
                }
            }
        }
    };
}

surface! {
    impl [] for [] with 'static,
    /// A context that is not yet entered: what an `#[actxmgr]` function returns.
    ///
    /// Nothing runs before it is awaited.
    context Context,
    /// An entered context: the value, and the duty to tear it down.
    ///
    /// Dropped, it leaves the teardown to the runtime that the context was entered on; see
    /// [`teardown`](crate::teardown). Methods of the value that are called like the guard's own are reached
    /// by `(*guard).exit()`.
    guard Guard,
    /// The future of [`Context::enter`], also what a context turns into when it is awaited.
    enter Enter,
    /// The future of [`Guard::exit`] and [`Guard::exit_with`].
    leave Leave,
}

surface! {
    impl ['a,] for ['a,] with 'a,
    /// A context that may borrow: what an `#[actxmgr(borrowed)]` function returns.
    ///
    /// Like [`Context`], but its teardown cannot outlive `'a` and so cannot be left to a task.
    context BorrowedContext,
    /// An entered context that may borrow.
    ///
    /// **Dropped, it polls its teardown once** and reports it abandoned if it isn't done by then: Rust lets
    /// nothing more be done with what is borrowed. Call `exit`, or use
    /// [`with`](BorrowedContext::with), whenever the teardown has to await something.
    guard BorrowedGuard,
    /// The future of [`BorrowedContext::enter`].
    enter BorrowedEnter,
    /// The future of [`BorrowedGuard::exit`] and [`BorrowedGuard::exit_with`].
    leave BorrowedLeave,
}

fn elapsed<T, E: From<Elapsed>>(elapsed: Elapsed) -> Result<T, E> {
    Err(elapsed.into())
}

impl<R: Return> Context<R> {
    /// Lets a setup whose caller is gone come to its end, detached, and tears it down then. For
    /// setups that leave something behind when they are cut off half-way.
    pub fn finish_setup(self) -> Self {
        Context(self.0.set(|meta| meta.finish_setup = true))
    }
}

#[cfg(feature = "scope")]
impl<R: Return> Context<R> {
    pub(crate) fn watched(self, watch: Arc<dyn Watch>) -> Self {
        Context(self.0.set(|meta| meta.watch = Some(watch)))
    }

    pub(crate) fn watch(&mut self) -> Option<Arc<dyn Watch>> {
        self.0.watch()
    }
}

/// What `#[actxmgr]` expands to.
pub fn context<R, F>(
    name: &'static str,
    function: impl FnOnce(Yielder<R, ByThread<R>>) -> F,
) -> Context<R>
where
    R: Return<Body: Outcome> + 'static,
    R::Value: Send,
    F: Future<Output = R::Body> + Send + 'static,
{
    Context(Entering::new(Frame::owned(name, function)))
}

/// What `#[actxmgr(borrowed)]` expands to.
pub fn borrowed_context<'a, R, F>(
    name: &'static str,
    function: impl FnOnce(Yielder<R, BySlot<R>>) -> F,
) -> BorrowedContext<'a, R>
where
    R: Return<Body: Outcome> + 'a,
    R::Value: Send,
    F: Future<Output = R::Body> + Send + 'a,
{
    BorrowedContext(Entering::new(Frame::borrowed(name, function)))
}
