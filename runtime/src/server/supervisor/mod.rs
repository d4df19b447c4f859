//! What runs once in a server: it starts the workers, watches over them, and owns the listening sockets.
//!
//! `policy` decides. `driver` waits for what happens; `hearing` makes events of it, `acting` carries out what the
//! policy makes of those, `telling` logs it, `noticing` has systemd told.

mod absence;
mod acting;
mod asked;
mod driver;
mod hearing;
#[cfg(feature = "process")]
mod image;
mod inbox;
#[cfg(feature = "monitor")]
mod journal;
mod live;
mod looks;
mod noticing;
mod policy;
mod progress;
mod pulse;
mod requests;
mod seats;
#[cfg(feature = "monitor")]
mod showing;
mod signals;
#[cfg(feature = "timer")]
mod singles;
mod sockets;
mod systemd;
mod telling;
mod turns;
#[cfg(feature = "monitor")]
mod view;
mod watchdog;
mod wear;
mod who;

pub(super) use asked::Asked;
pub(super) use driver::{OnReady, Setup, Supervisor};
#[cfg(feature = "process")]
pub(super) use image::Origin;
#[cfg(feature = "monitor")]
pub(super) use journal::{Entry, Step};
pub(super) use looks::Looks;
#[cfg(feature = "monitor")]
pub(super) use looks::{Act, Last, Watcher};
pub(super) use policy::Config;
#[cfg(feature = "monitor")]
pub(super) use policy::WorkerId;
pub(super) use progress::{Progress, Teller};
pub(super) use requests::{Requester, Requests};
#[cfg(feature = "process")]
pub(super) use seats::Processes;
pub(super) use seats::Seats;
pub(super) use signals::Signals;
pub(super) use sockets::{Received, received};
pub(super) use systemd::Systemd;
#[cfg(feature = "monitor")]
pub(super) use view::{Place, View, WorkerView};
pub(super) use watchdog::GiveUp;
