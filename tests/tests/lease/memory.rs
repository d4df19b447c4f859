//! The engine in memory.

use std::time::Duration;

use aioxide::lease::{BoxLease, MemoryLease};

use crate::conformance::{conforms, runtime};

#[test]
fn conforms_to_the_contract() {
    let lease = BoxLease::new(MemoryLease::new());
    let expires = Some(Duration::from_millis(100));
    conforms(&runtime(), [lease.clone(), lease], expires);
}
