//! What the expansions of the attributes name. Not API: it changes without notice.

#[cfg(feature = "timer")]
pub use crate::timer::private as timer;
