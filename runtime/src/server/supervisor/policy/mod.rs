//! The policy: what the supervisor does next.

mod machine;

pub(in crate::server) use machine::{
    Action, Config, Ending, Event, Image, Policy, Report, Role, WorkerId,
};
