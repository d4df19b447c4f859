//! Leases: who of several processes runs a timer, and how far it got.
//!
//! A timer with `single = lease` runs in one process of a cluster at a time: the one that holds the [`Lease`] of
//! its name. The store of the lease gives every holder a [`Token`] that is greater than all before it, and remembers
//! which due time was started or done last, so that the next holder goes on where the last one stopped.
//!
//! | engine | feature | among | after a crash it is handed over |
//! | --- | --- | --- | --- |
//! | `FileLease` | `lease-file` | the processes of one host | at once; a holder that is stopped or hangs keeps it |
//! | `PostgresLease` | `lease-postgres` | all that reach the database | when the ttl is over |
//! | `EtcdLease` | `lease-etcd` | all that reach etcd; building it needs `protoc` | when the ttl is over |
//! | [`MemoryLease`] | `timer` | the runtimes of one process, and in tests | when the ttl is over |
//!
//! After a stop that is awaited it is handed over within 100 ms. All features are off by default, and all of them work
//! with the rustc that aioxide needs, 1.85.
//!
//! [`BoxLease`] is one of them, chosen at run time.

mod boxed;
mod contract;
#[cfg(any(
    feature = "lease-etcd",
    feature = "lease-file",
    feature = "lease-postgres"
))]
mod due;
mod error;
#[cfg(feature = "lease-etcd")]
mod etcd;
#[cfg(feature = "lease-file")]
mod file;
mod memory;
#[cfg(feature = "lease-postgres")]
mod postgres;
mod slot;
#[cfg(any(feature = "lease-etcd", feature = "lease-file"))]
mod text;
mod types;

pub use boxed::BoxLease;
pub use contract::Lease;
pub use error::LeaseError;
#[cfg(feature = "lease-etcd")]
pub use etcd::EtcdLease;
#[cfg(feature = "lease-file")]
pub use file::FileLease;
pub use memory::MemoryLease;
#[cfg(feature = "lease-postgres")]
pub use postgres::PostgresLease;
pub use types::{Held, Owner, Progress, Token};
