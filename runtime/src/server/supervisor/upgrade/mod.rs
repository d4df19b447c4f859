//! The replacement of a supervisor by a new one, in another process.
//!
//! `handover` decides for the one that is replaced, `succession` for the new one; both are pure. They speak in `messages`
//! on a pair of sockets, to which `successor` and `predecessor` attend; `state` is what the driver keeps of all that.

pub(super) mod handover;
pub(super) mod messages;
pub(super) mod predecessor;
pub(super) mod state;
pub(super) mod succession;
pub(super) mod successor;

pub(crate) use messages::Roles;
pub(crate) use predecessor::{Heir, Predecessor};
pub(crate) use state::Upgrader;
pub(super) use state::{Other, Upgrading};
