//! Who holds which listening socket, and what is done with those of a slot that nobody serves.
//!
//! Nothing here makes a system call: what it needs of the system is a [`System`](super::system::System).
//!
//! `asking` opens what workers ask for, `lives` follows workers from their start to their end, `lending` finds who accepts
//! in the place of a worker that can't, `inherited` has the sockets that were open before the server, `kept` those of the run
//! before.

mod asking;
#[cfg(test)]
mod fake;
mod inherited;
mod kept;
mod lending;
mod lives;
#[cfg(test)]
mod model;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use kept::{Kept, Offered};
#[cfg(feature = "monitor")]
pub(crate) use state::Holding;
pub(crate) use state::{Inherited, Order, Table};
