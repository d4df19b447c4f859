//! What a supervisor is asked for, by a signal or by a request.

use crate::server::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A stop that a later stop signal forces.
    Stop(Signal),
    /// A stop that forces nothing, however often it is asked for.
    StopRequested,
    Reload,
    ScaleUp,
    ScaleDown,
    /// As many workers as this.
    Scale(usize),
    Tell,
    /// The supervisor is to be replaced by what is on disk.
    Upgrade,
}
