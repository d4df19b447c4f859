//! Everything that reaches the supervisor from its own process.

use super::policy::WorkerId;
use crate::server::job::MainValue;
use crate::server::line::Message;

pub(crate) enum Input {
    Worker(WorkerId, Message),
    Main(Message),
    MainEntered(MainValue),
}
