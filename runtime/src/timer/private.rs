//! What expansions of `#[timer]` name.

use super::Tick;

/// What each tick gets a clone of.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument of a timer: each tick gets a clone of it",
    label = "this argument isn't `Clone`",
    note = "derive `Clone` for it, or take an `Arc` of it; a generic argument needs `Clone + Send + 'static`"
)]
pub trait Argument {
    /// The clone.
    fn for_tick(&self) -> Self;
}

// Otherwise rustc would report the missing `Clone` in its own words.
#[diagnostic::do_not_recommend]
impl<T: Clone> Argument for T {
    fn for_tick(&self) -> Self {
        self.clone()
    }
}

/// The clone of an argument that one tick gets.
pub fn argument<T: Argument>(argument: &T) -> T {
    argument.for_tick()
}

/// Nothing, of the type that a tick is declared to return.
pub fn declared<R>() -> Option<R> {
    None
}

/// Turns a closure that gives up what it owns to a single tick into one for all ticks.
pub fn each<F, Fut>(tick: F) -> impl FnMut(Tick) -> Fut
where
    F: FnOnce(Tick) -> Fut + Clone,
{
    move |now| tick.clone()(now)
}

/// Stands where a timer, or its tick, would be if the function could be expanded.
pub fn stub<T>() -> T {
    unreachable!("the crate doesn't compile")
}
