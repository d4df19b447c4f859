//! Leases: who of several processes runs a timer, and how far it got.
//!
//! A timer with `single = lease` runs in one process of a cluster at a time: the one that holds the [`Lease`] of
//! its name. The store of the lease gives every holder a [`Token`] that is greater than all before it, and remembers
//! which due time was started or done last, so that the next holder goes on where the last one stopped.
//!
//! | engine | feature | reaches | hands over after a crash |
//! | --- | --- | --- | --- |
//! | [`MemoryLease`] | `timer` | one process; for tests | when the ttl is over |
//!
//! [`BoxLease`] is one of them, chosen at run time.

mod boxed;
mod contract;
mod error;
mod memory;
mod slot;
mod types;

pub use boxed::BoxLease;
pub use contract::Lease;
pub use error::LeaseError;
pub use memory::MemoryLease;
pub use types::{Held, Owner, Progress, Token};
