//! Timers of which one runs among several: in a server, or in a cluster.

mod claim;
#[cfg(test)]
mod model;
mod tenant;
mod worker;

pub use claim::Delivery;
pub(super) use claim::{Standing, Terms};
pub(super) use tenant::{Event, Guard, Tenant};
#[cfg(feature = "server")]
pub(crate) use worker::install;
pub(super) use worker::installed;
