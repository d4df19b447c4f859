//! What expansions of `#[timer]` name.

use std::marker::PhantomData;
#[cfg(feature = "calendar")]
use std::sync::{Arc, OnceLock};

use super::Tick;
#[cfg(feature = "calendar")]
use super::TimerBuilder;
#[cfg(feature = "calendar")]
use super::calendar::{Calendar, Expression, InvalidCalendar};

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

/// A cron expression that the attribute has checked. It is read once for all timers of a function: thousands that are due
/// together cost the memory that they miss.
#[cfg(feature = "calendar")]
pub struct Cron {
    expression: &'static str,
    read: OnceLock<Arc<Expression>>,
}

#[cfg(feature = "calendar")]
impl Cron {
    /// Not read yet.
    pub const fn new(expression: &'static str) -> Cron {
        Cron {
            expression,
            read: OnceLock::new(),
        }
    }

    fn read(&self) -> Result<Arc<Expression>, InvalidCalendar> {
        if let Some(read) = self.read.get() {
            return Ok(Arc::clone(read));
        }
        let read = Arc::new(Calendar::read(self.expression)?);
        Ok(Arc::clone(self.read.get_or_init(|| read)))
    }
}

/// The timer of an expression and a zone that the attribute has checked.
#[cfg(feature = "calendar")]
#[track_caller]
pub fn calendar(cron: &Cron, zone: &str) -> TimerBuilder {
    let builder = cron
        .read()
        .and_then(|read| TimerBuilder::by_calendar(cron.expression, read, zone));
    match builder {
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

#[cfg(all(test, feature = "calendar"))]
mod tests {
    use super::*;

    #[test]
    fn timers_of_a_function_share_what_was_read() {
        let cron = Cron::new("0 3 * * mon-fri");
        let (first, second) = (cron.read().unwrap(), cron.read().unwrap());
        assert!(Arc::ptr_eq(&first, &second));
    }
}
