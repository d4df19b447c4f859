//! The engine of locked files: what it promises beyond the contract, and what it survives.

use std::fs;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use aioxide::lease::{BoxLease, FileLease, Lease, Owner, Progress};
use aioxide_tests::{Folder, PATIENCE};

use tokio::time::timeout;

use crate::conformance::{conforms, runtime};
use crate::faults;
use crate::holders::Delivery::{AtLeastOnce, AtMostOnce};
use crate::holders::Place;

const TTL: Duration = Duration::from_secs(60);

fn place() -> (Folder, Place) {
    let folder = Folder::new();
    let place = Place::new(
        "--file",
        folder.path().display(),
        Duration::from_millis(300),
    );
    (folder, place)
}

#[test]
fn conforms_to_the_contract() {
    let folder = Folder::new();
    let lease = || BoxLease::new(FileLease::new(folder.path()).expect("it is there"));
    conforms(&runtime(), [lease(), lease()], None);
}

#[test]
fn a_dropped_hold_gives_up_what_it_takes() {
    let folder = Folder::new();
    let lease = FileLease::new(folder.path()).expect("it is there");
    let other = FileLease::new(folder.path()).expect("it is there");
    runtime().block_on(async {
        for name in ["one", "two", "three"] {
            {
                let owner = Owner::unique();
                let mut hold = pin!(lease.hold(name, &owner, TTL));
                // It is on its way.
                let first = poll_fn(|cx| Poll::Ready(hold.as_mut().poll(cx))).await;
                assert!(first.is_pending(), "{first:?}");
            }
            let taken = tokio::time::timeout(PATIENCE, async {
                let owner = Owner::unique();
                while other
                    .hold(name, &owner, TTL)
                    .await
                    .expect("it works")
                    .is_none()
                {
                    other.changed(name, TTL).await;
                }
            });
            taken.await.expect("it was given up");
        }
    });
}

#[test]
fn a_dropped_hold_takes_nothing_from_the_next() {
    let folder = Folder::new();
    let lease = FileLease::new(folder.path()).expect("it is there");
    let other = FileLease::new(folder.path()).expect("it is there");
    let (first, second) = (Owner::unique(), Owner::unique());
    runtime().block_on(async {
        for round in 0..50 {
            let name = format!("round {round}");
            {
                let mut hold = pin!(lease.hold(&name, &first, TTL));
                let _ = poll_fn(|cx| Poll::Ready(hold.as_mut().poll(cx).is_ready())).await;
            }
            // A process that is being started has the lock too, until it runs its program.
            let held = async {
                while lease
                    .hold(&name, &first, TTL)
                    .await
                    .expect("it works")
                    .is_none()
                {
                    lease.changed(&name, TTL).await;
                }
            };
            timeout(PATIENCE, held).await.expect("it is free");
            assert!(
                other
                    .hold(&name, &second, TTL)
                    .await
                    .expect("it works")
                    .is_none()
            );
        }
    });
}

#[test]
fn a_lease_whose_file_is_removed_is_lost() {
    let folder = Folder::new();
    let lease = FileLease::new(folder.path()).expect("it is there");
    let other = FileLease::new(folder.path()).expect("it is there");
    let (first, second) = (Owner::unique(), Owner::unique());
    runtime().block_on(async {
        let held = lease.hold("report", &first, TTL).await.expect("it works");
        let token = held.expect("it is free").token;
        fs::remove_file(folder.file("report.lease")).expect("it is there");
        let taken = other.hold("report", &second, TTL).await.expect("it works");
        assert!(taken.is_some());
        assert_eq!(
            lease.hold("report", &first, TTL).await.expect("it works"),
            None
        );
        let due = std::time::SystemTime::now();
        let recorded = lease.record("report", token, due, Progress::Done).await;
        assert!(recorded.is_err_and(|error| error.is_stale()));
    });
}

#[test]
fn says_what_is_wrong_with_a_file() {
    let folder = Folder::new();
    let lease = FileLease::new(folder.path()).expect("it is there");
    fs::write(folder.file("report.lease"), "seven").expect("it can be written");
    let owner = Owner::unique();
    let held = runtime().block_on(lease.hold("report", &owner, TTL));
    let error = held.expect_err("that is no token").to_string();
    assert!(
        error.contains("lease `report`") && error.contains("`seven`"),
        "{error}"
    );
    let error = FileLease::new("/proc/self/leases").expect_err("nothing is made there");
    assert!(error.to_string().contains("/proc/self/leases"), "{error}");
}

#[test]
fn no_due_time_is_lost_when_holders_are_killed() {
    let (_folder, place) = place();
    faults::kills(&place, AtLeastOnce, 50);
}

#[test]
fn no_due_time_is_started_twice_when_holders_are_killed() {
    let (_folder, place) = place();
    faults::kills(&place, AtMostOnce, 50);
}

#[test]
fn timers_lose_no_due_time_when_they_are_killed() {
    let (_folder, place) = place();
    faults::kills(&place.for_timers(), AtLeastOnce, 30);
}

#[test]
fn timers_start_no_due_time_twice_when_they_are_killed() {
    let (_folder, place) = place();
    faults::kills(&place.for_timers(), AtMostOnce, 30);
}

#[test]
fn a_timer_that_is_stopped_keeps_it() {
    let (_folder, place) = place();
    faults::stopped_holder_keeps_it(&place.for_timers());
}

#[test]
fn a_timers_clean_stop_hands_it_over() {
    let (_folder, place) = place();
    faults::clean_stops(&place.for_timers());
}

#[test]
#[ignore = "takes a while"]
fn two_hundred_holders_are_killed() {
    let (_folder, place) = place();
    faults::kills(&place, AtLeastOnce, 200);
}

#[test]
fn a_holder_that_is_stopped_keeps_it() {
    let (_folder, place) = place();
    faults::stopped_holder_keeps_it(&place);
}

#[test]
fn a_clean_stop_hands_it_over() {
    let (_folder, place) = place();
    faults::clean_stops(&place);
}
