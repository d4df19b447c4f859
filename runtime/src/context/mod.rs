//! Async context managers: setup, guard, guaranteed teardown. Written with
//! [`#[actxmgr]`](macro@crate::actxmgr), which tells the whole of it.

mod elapsed;
mod exit;
mod fault;
mod frame;
mod futures;
mod group;
mod passage;
mod returns;
mod stack;
mod surface;
mod watch;

pub use elapsed::Elapsed;
pub use exit::Exit;
pub use group::{Group, group};
pub use returns::{Always, Return};
pub use stack::{Ending, ExitErrors, ExitStack, MemberId};
pub use surface::{
    BorrowedContext, BorrowedEnter, BorrowedGuard, BorrowedLeave, Context, Enter, Guard, Leave,
};

#[cfg(feature = "scope")]
pub(crate) use watch::Watch;

#[doc(hidden)]
pub use passage::Yielder;
#[doc(hidden)]
pub use returns::Outcome;
#[doc(hidden)]
pub use surface::{borrowed_context, context};
