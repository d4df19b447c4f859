//! What the expansions of the attributes name. Not API: it changes without notice.

pub use crate::context::{Yield, Yielder, borrowed_context, context};
#[cfg(feature = "server")]
pub use crate::server::expansion::*;
