//! Pages to read, in this order:
//!
//! 1. [`cancellation`]: what is promised about teardown, what can't be, and how to write one that keeps it;
//! 2. [`scopes`]: tasks that don't outlive their caller: how they fail, end and are cancelled;
//! 3. [`testing`]: contexts, timers under a paused clock, servers beside a test;
//! 4. [`production`]: under systemd, in a container, in Kubernetes; logs, signals, exit codes, new versions;
//! 5. `cluster`: many instances: leases, rolling updates, metrics (features `calendar`, `lease-postgres`);
//! 6. `monitor`: looking into a running server, and acting on it (feature `monitor`);
//! 7. `http`: HTTP, TLS, gRPC and WebSocket, and how clients lose no request (feature `http`);
//! 8. [`coming_from_aiotools`]: each name of Python's aiotools and its counterpart.

#[doc = include_str!("guide/pictures/places.md")]
#[doc = include_str!("guide/cancellation.md")]
pub mod cancellation {}

#[cfg(all(feature = "server", feature = "calendar", feature = "lease-postgres"))]
#[doc = include_str!("guide/cluster.md")]
pub mod cluster {}

#[doc = include_str!("guide/coming_from_aiotools.md")]
pub mod coming_from_aiotools {}

#[cfg(feature = "http")]
#[doc = include_str!("guide/http.md")]
pub mod http {}

#[cfg(feature = "server")]
#[doc = include_str!("guide/pictures/stop.md")]
#[doc = include_str!("guide/pictures/roll.md")]
#[doc = include_str!("guide/production.md")]
pub mod production {}

#[cfg(feature = "monitor")]
#[doc = include_str!("guide/pictures/page-light.md")]
#[doc = include_str!("guide/monitor.md")]
pub mod monitor {}

#[cfg(feature = "scope")]
#[doc = include_str!("guide/scopes.md")]
pub mod scopes {}

#[cfg(all(feature = "server", feature = "timer"))]
#[doc = include_str!("guide/testing.md")]
pub mod testing {}
