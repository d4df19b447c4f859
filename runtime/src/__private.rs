//! What the expansions of the attributes name. Not API: it changes without notice.

pub use crate::context::{Yielder, borrowed_context, context};
#[cfg(feature = "server")]
pub use crate::server::expansion::*;
#[cfg(feature = "timer")]
pub use crate::timer::private as timer;

use crate::Return;

/// What the body of a context's function ends in.
pub type End<R> = <R as Return>::Body;

/// Never anything: it only tells the type of the frame before its body is seen.
pub fn no_end<R: Return>() -> Option<End<R>> {
    None
}
