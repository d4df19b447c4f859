//! For those who look into a running server: a door for its operator, and health checks.
//!
//! All of it runs on a thread and a runtime of its own, so that no client, however slow, holds up the supervisor. `vocabulary`
//! reads commands, `desk` carries them out, `figures` asks the workers, `reply` is what they give. `lines` and `http` are two ways to ask; `door` and
//! `health` are where that is done, and `clients` bounds how many there are.

mod about;
mod clients;
mod desk;
mod door;
mod figures;
mod health;
mod http;
mod ledger;
mod lines;
mod log;
mod metrics;
mod own;
mod page;
mod place;
mod reply;
mod text;
mod thread;
mod vocabulary;

pub(super) use about::{About, Options, Recycling};
pub use place::Door;
pub(super) use thread::{Monitor, Opened};
