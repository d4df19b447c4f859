//! Pages to read, in this order:
//!
//! 1. [`cancellation`]: what is promised about teardown, what can't be, and how to write one that keeps it;
//! 2. [`production`]: under systemd, in a container, in Kubernetes; logs, signals, exit codes, new versions;
//! 3. [`coming_from_aiotools`]: each name of Python's aiotools and its counterpart.

#[doc = include_str!("guide/cancellation.md")]
pub mod cancellation {}

#[doc = include_str!("guide/coming_from_aiotools.md")]
pub mod coming_from_aiotools {}

#[cfg(feature = "server")]
#[doc = include_str!("guide/production.md")]
pub mod production {}
