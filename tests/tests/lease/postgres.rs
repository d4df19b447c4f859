//! The engine in PostgreSQL, on a real one.

use std::net::SocketAddr;
use std::time::Duration;

use aioxide::lease::{BoxLease, Lease, Owner, PostgresLease};
use aioxide_tests::proxy::Proxy;
use aioxide_tests::stores::Store;

use crate::conformance::{conforms, runtime};
use crate::faults;
use crate::holders::Delivery::{AtLeastOnce, AtMostOnce};
use crate::holders::Place;

const TTL: Duration = Duration::from_millis(900);

fn url(address: SocketAddr) -> String {
    format!("postgres://postgres@{address}/postgres")
}

fn lease(address: SocketAddr) -> PostgresLease {
    PostgresLease::new(&url(address)).expect("it is a URL")
}

fn place(address: SocketAddr) -> Place {
    Place::new("--postgres", url(address), TTL)
}

/// A server with the table.
fn store() -> Store {
    let store = Store::postgres();
    let made = runtime().block_on(lease(store.address()).setup());
    made.unwrap_or_else(|error| panic!("{error}"));
    store
}

#[test]
fn conforms_to_the_contract() {
    let store = store();
    let lease = || BoxLease::new(lease(store.address()));
    conforms(&runtime(), [lease(), lease()], Some(TTL));
}

#[test]
fn the_table_is_made_by_any_number_at_once() {
    let store = Store::postgres();
    runtime().block_on(async {
        let lease = lease(store.address());
        let early = lease.hold("report", &Owner::unique(), TTL).await;
        let error = early.expect_err("there is no table").to_string();
        assert!(error.contains("PostgresLease::setup"), "{error}");
        let setups = (0..8).map(|_| {
            let lease = self::lease(store.address());
            tokio::spawn(async move { lease.setup().await })
        });
        for setup in setups.collect::<Vec<_>>() {
            setup
                .await
                .expect("it doesn't panic")
                .unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(lease.hold("report", &Owner::unique(), TTL).await.is_ok());
    });
}

#[test]
fn says_what_is_wrong() {
    let error = PostgresLease::new("postgres://host:port").expect_err("that is no port");
    assert!(error.to_string().contains("URL of PostgreSQL"), "{error}");
    // Nothing listens on port 1.
    let away = lease(SocketAddr::from(([127, 0, 0, 1], 1)));
    let held = runtime().block_on(away.hold("report", &Owner::unique(), TTL));
    let error = held.expect_err("it can't be reached").to_string();
    assert!(
        error.contains("hold lease `report`") && error.contains("refused"),
        "{error}"
    );
}

#[test]
fn outlives_the_runtime_that_connected() {
    let store = store();
    let (lease, owner) = (lease(store.address()), Owner::unique());
    for _ in 0..3 {
        let held = runtime().block_on(lease.hold("report", &owner, TTL));
        assert!(held.unwrap_or_else(|error| panic!("{error}")).is_some());
    }
}

#[test]
fn no_due_time_is_lost_when_holders_are_killed() {
    let store = store();
    faults::kills(&place(store.address()), AtLeastOnce, 8);
}

#[test]
fn no_due_time_is_started_twice_when_holders_are_killed() {
    let store = store();
    faults::kills(&place(store.address()), AtMostOnce, 8);
}

#[test]
#[ignore = "takes minutes"]
fn two_hundred_holders_are_killed() {
    let store = store();
    faults::kills(&place(store.address()), AtLeastOnce, 200);
}

#[test]
#[ignore = "takes minutes"]
fn two_hundred_holders_are_killed_at_most_once() {
    let store = store();
    faults::kills(&place(store.address()), AtMostOnce, 200);
}

#[test]
fn a_clean_stop_hands_it_over() {
    let store = store();
    faults::clean_stops(&place(store.address()));
}

#[test]
fn a_holder_that_was_stopped_is_fenced() {
    let store = store();
    faults::stopped_holder_is_fenced(&place(store.address()));
}

#[test]
fn a_timer_that_was_stopped_drops_its_tick() {
    let store = store();
    faults::stopped_timer_drops_its_tick(&place(store.address()));
}

#[test]
fn timers_are_killed() {
    let store = store();
    let place = place(store.address()).for_timers();
    faults::kills(&place, AtLeastOnce, 8);
    faults::kills(&place.named("again"), AtMostOnce, 8);
}

#[test]
fn a_timers_clean_stop_hands_it_over() {
    let store = store();
    faults::clean_stops(&place(store.address()).for_timers());
}

#[test]
fn a_restart_of_the_store_loses_nothing() {
    let mut store = store();
    let place = place(store.address());
    faults::restarts(&place, AtLeastOnce, || store.restart());
    faults::restarts(&place.named("again"), AtMostOnce, || store.restart());
}

#[test]
fn a_holder_behind_a_partition_is_fenced() {
    let store = store();
    let proxy = Proxy::start(store.address());
    let (near, far) = (place(store.address()), place(proxy.address()));
    faults::partition(&near, &far, &proxy);
}
