//! The engine in etcd, on a real one.

use std::net::SocketAddr;
use std::time::Duration;

use aioxide::lease::{BoxLease, EtcdLease, Lease, Owner};
use aioxide_tests::proxy::Proxy;
use aioxide_tests::stores::Store;

use crate::conformance::{conforms, runtime};
use crate::faults;
use crate::holders::Delivery::{AtLeastOnce, AtMostOnce};
use crate::holders::Place;

/// The shortest that etcd notices within it.
const TTL: Duration = Duration::from_secs(4);

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn place(address: SocketAddr) -> Place {
    Place::new("--etcd", url(address), TTL)
}

#[test]
fn conforms_to_the_contract() {
    let store = Store::etcd();
    let runtime = runtime();
    let lease = || {
        let lease = runtime.block_on(EtcdLease::connect([url(store.address())]));
        BoxLease::new(lease.unwrap_or_else(|error| panic!("{error}")))
    };
    conforms(&runtime, [lease(), lease()], Some(Duration::from_secs(2)));
}

#[test]
fn says_what_is_wrong() {
    runtime().block_on(async {
        let error = EtcdLease::connect(["not a host"])
            .await
            .expect_err("that is no URL");
        assert!(error.to_string().contains("connect to etcd"), "{error}");
        // Nothing listens on port 1.
        let away = EtcdLease::connect(["http://127.0.0.1:1"])
            .await
            .expect("it is a URL");
        let held = away.hold("report", &Owner::unique(), TTL).await;
        let error = held.expect_err("it can't be reached").to_string();
        assert!(error.contains("hold lease `report`"), "{error}");
    });
}

#[test]
fn no_due_time_is_lost_when_holders_are_killed() {
    let store = Store::etcd();
    faults::kills(&place(store.address()), AtLeastOnce, 3);
}

#[test]
fn no_due_time_is_started_twice_when_holders_are_killed() {
    let store = Store::etcd();
    faults::kills(&place(store.address()), AtMostOnce, 3);
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn two_hundred_holders_are_killed() {
    let store = Store::etcd();
    faults::kills(&place(store.address()), AtLeastOnce, 200);
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn two_hundred_holders_are_killed_at_most_once() {
    let store = Store::etcd();
    faults::kills(&place(store.address()), AtMostOnce, 200);
}

#[test]
fn a_clean_stop_hands_it_over() {
    let store = Store::etcd();
    faults::clean_stops(&place(store.address()));
}

#[test]
fn a_holder_that_was_stopped_is_fenced() {
    let store = Store::etcd();
    faults::stopped_holder_is_fenced(&place(store.address()));
}

#[test]
fn a_timer_that_was_stopped_drops_its_tick() {
    let store = Store::etcd();
    faults::stopped_timer_drops_its_tick(&place(store.address()));
}

#[test]
fn timers_are_killed() {
    let store = Store::etcd();
    let place = place(store.address()).for_timers();
    faults::kills(&place, AtLeastOnce, 3);
    faults::kills(&place.named("again"), AtMostOnce, 3);
}

#[test]
fn a_timers_clean_stop_hands_it_over() {
    let store = Store::etcd();
    faults::clean_stops(&place(store.address()).for_timers());
}

#[test]
fn a_restart_of_the_store_loses_nothing() {
    let mut store = Store::etcd();
    let place = place(store.address());
    faults::restarts(&place, AtLeastOnce, || store.restart());
    faults::restarts(&place.named("again"), AtMostOnce, || store.restart());
}

#[test]
fn a_holder_behind_a_partition_is_fenced() {
    let store = Store::etcd();
    let proxy = Proxy::start(store.address());
    let (near, far) = (place(store.address()), place(proxy.address()));
    faults::partition(&near, &far, &proxy);
}
