//! What expansions of `#[timer]` name.

use std::marker::PhantomData;

use super::Tick;

/// Asks whether what the caller of a `#[timer]` function passes is fit for a timer. It is borrowed here, for with one
/// that is given away rustc would have the user borrow it.
pub fn argument<T, C, S>(_: &T) -> <T::Cloned as SentArgument<S>>::Sent
where
    T: ClonedArgument<C, Cloned: SentArgument<S>>,
{
    T::Cloned::sent()
}

/// Is `Clone` and `Send`.
pub struct Sent<T>(PhantomData<T>);

impl<T> Sent<T> {
    /// The argument. It has no type unless it is fit for a timer, so that rustc has nothing more to say about the
    /// closure and the future that own it.
    pub fn of(self, argument: T) -> T {
        argument
    }

    /// Turns a closure that gives up the argument, which it owns, to a single tick into one for all ticks.
    pub fn each<F, Fut>(self, tick: F) -> impl FnMut(Tick) -> Fut
    where
        F: FnOnce(Tick) -> Fut + Clone,
    {
        move |now| tick.clone()(now)
    }
}

/// What the caller of a `#[timer]` function may pass.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument of a timer: each tick gets a clone of it",
    label = "this argument isn't `Clone`",
    note = "derive `Clone` for it, or take an `Arc` of it; a generic argument needs `Clone + Send + 'static`"
)]
pub trait ClonedArgument<Fitness> {
    /// Itself. No type for one that isn't, so that what else it isn't goes unsaid.
    type Cloned;
}

/// What the caller of a `#[timer]` function may pass.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument of a timer: ticks run on any thread of the runtime",
    label = "this argument isn't `Send`",
    note = "take an `Arc` in place of an `Rc`; a generic argument needs `Clone + Send + 'static`"
)]
pub trait SentArgument<Fitness> {
    /// [`Sent`]. No type for one that isn't.
    type Sent;

    /// Tells that it is.
    fn sent() -> Self::Sent;
}

/// Of what is fit for a timer.
pub struct Fit;

/// Of nothing. While an impl is the only one, rustc takes it and reports the bound that it lacks, in its own words
/// and beside all that follows; of several it takes none.
pub struct Unfit;

/// Has no impl.
pub trait Never {}

#[diagnostic::do_not_recommend]
impl<T: Clone> ClonedArgument<Fit> for T {
    type Cloned = T;
}

#[diagnostic::do_not_recommend]
impl<T: Never> ClonedArgument<Unfit> for T {
    type Cloned = T;
}

#[diagnostic::do_not_recommend]
impl<T: Send> SentArgument<Fit> for T {
    type Sent = Sent<T>;

    fn sent() -> Sent<T> {
        Sent(PhantomData)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Never> SentArgument<Unfit> for T {
    type Sent = Sent<T>;

    fn sent() -> Sent<T> {
        Sent(PhantomData)
    }
}

/// The timer of an expression and a zone that the attribute has checked.
#[cfg(feature = "calendar")]
#[track_caller]
pub fn calendar(cron: &str, zone: &str) -> crate::TimerBuilder {
    match crate::Timer::calendar(cron, zone) {
        Ok(builder) => builder,
        Err(error) => panic!("a calendar that was checked when the program was compiled: {error}"),
    }
}

/// Nothing, of the type that a tick is declared to return.
pub fn declared<R>() -> Option<R> {
    None
}

/// Stands where a timer, or its tick, would be if the function could be expanded.
pub fn stub<T>() -> T {
    unreachable!("the crate doesn't compile")
}
