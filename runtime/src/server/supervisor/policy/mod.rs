//! What the supervisor does next: events and the time in, actions out.
//!
//! No clock, socket, task or log is in here, so that property tests cover years of events in a
//! second. Times are durations since an epoch that the driver chooses; they never go backwards.

mod event;
#[cfg(test)]
mod harness;
mod machine;
#[cfg(test)]
mod model;
mod places;
mod recycling;
mod rolling;
mod standing;
mod state;
mod stopping;
mod upgrading;
#[cfg(feature = "monitor")]
mod view;

pub(in crate::server) use event::{Action, Config, Ending, Event, Image, Report, WorkerId, Worn};
pub(in crate::server) use standing::{Phase, Rolled, Standing};
pub(in crate::server) use state::Policy;
