//! What became of a tick.

use super::failure::TickError;

/// How a tick ended by itself.
pub(super) type End = Result<(), TickError>;

/// What became of a tick.
pub(super) enum Verdict {
    Completed,
    /// It was asked to end before it had.
    Cancelled,
    Failed(TickError),
}

impl Verdict {
    pub(super) fn of(end: End, asked: bool) -> Verdict {
        match end {
            Err(error) => Verdict::Failed(error),
            Ok(()) if asked => Verdict::Cancelled,
            Ok(()) => Verdict::Completed,
        }
    }
}
