//! Every engine of leases against the same contract, and against what happens to processes, stores and networks.
//!
//! With the feature `stores` on real PostgreSQL and etcd, which are started here. Two hundred holders killed on each
//! engine, which takes some minutes:
//!
//! ```sh
//! cargo test -p aioxide-tests --features stores --test lease -- --ignored
//! ```

mod conformance;
mod faults;
mod file;
mod holders;
mod memory;

#[cfg(feature = "stores")]
mod etcd;
#[cfg(feature = "stores")]
mod postgres;
