//! Everything that reaches the supervisor from its own process.

#[cfg(feature = "process")]
use tokio::sync::OwnedSemaphorePermit;

use super::policy::WorkerId;
use crate::server::job::MainValue;
use crate::server::line::Message;

pub(crate) enum Input {
    Worker(WorkerId, Message),
    /// As `Worker`, and until it has been dealt with the worker may say so much less.
    #[cfg(feature = "process")]
    Process(WorkerId, Message, OwnedSemaphorePermit),
    /// Systemd has no socket of this worker any more, or is too slow in letting go of it.
    LetGo(WorkerId),
    Main(Message),
    MainEntered(MainValue),
}
