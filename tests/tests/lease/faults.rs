//! What happens to processes, stores and networks, on whatever engine.
//!
//! The holders go by their tokens alone: a timer also looks at the time that is left, so this is the worst of what the
//! store has to put right.

use std::thread::sleep;
use std::time::{Duration, Instant};

use aioxide_tests::Signal;
#[cfg(feature = "stores")]
use aioxide_tests::proxy::Proxy;

#[cfg(feature = "stores")]
use crate::holders::Event::Stale;
use crate::holders::Event::{Done, Recorded, Start};
use crate::holders::{Delivery, Holders, Place};

const SHORT: Duration = Duration::from_millis(10);
/// Long enough to be stopped in.
#[cfg(feature = "stores")]
const LONG: Duration = Duration::from_millis(400);

/// One holder after the other is killed, at the start of its work or somewhere further on. Another takes over within
/// the ttl.
pub(crate) fn kills(place: &Place, delivery: Delivery, count: usize) {
    let mut holders = Holders::new(delivery, SHORT);
    for _ in 0..3 {
        holders.start(place);
    }
    let mut current = holders.wait_for_next(0);
    let mut took = Vec::new();
    for round in 0..count {
        let when = [Start, Done, Recorded][round % 3];
        current = holders.wait_for("more work", |entry| {
            entry.event == when && entry.token >= current.token && entry.n > current.n
        });
        let killed = holders.kill(current.pid);
        holders.start(place);
        current = holders.wait_for_next(current.token);
        took.push(current.at.duration_since(killed));
    }
    holders.check();
    took.sort();
    let median = took[took.len() / 2];
    assert!(median <= place.ttl, "handed over in {took:?}");
}

/// One holder after the other is asked to stop. Another takes over within 100 ms.
pub(crate) fn clean_stops(place: &Place) {
    let mut holders = Holders::new(Delivery::AtLeastOnce, SHORT);
    for _ in 0..2 {
        holders.start(place);
    }
    let mut current = holders.wait_for_next(0);
    let mut took = Vec::new();
    for _ in 0..11 {
        holders.start(place);
        current = holders.wait_for("more work", |entry| {
            entry.event == Start && entry.token >= current.token
        });
        let asked = Instant::now();
        holders.signal(current.pid, Signal::TERM);
        let next = holders.wait_for_next(current.token);
        took.push(next.at.duration_since(asked));
        holders.wait(current.pid);
        current = next;
    }
    holders.check();
    took.sort();
    assert!(
        took[5] < Duration::from_millis(100),
        "handed over in {took:?}"
    );
}

/// A holder that is stopped for longer than the ttl and then goes on: the store refuses what it records.
#[cfg(feature = "stores")]
pub(crate) fn stopped_holder_is_fenced(place: &Place) {
    for (delivery, name) in [
        (Delivery::AtLeastOnce, "one"),
        (Delivery::AtMostOnce, "other"),
    ] {
        let place = place.clone().named(name);
        let mut holders = Holders::new(delivery, LONG);
        for _ in 0..2 {
            holders.start(&place);
        }
        let stopped = holders.wait_for_next(0);
        holders.signal(stopped.pid, Signal::STOP);
        let next = holders.wait_for_next(stopped.token);
        assert_ne!(next.pid, stopped.pid);
        holders.signal(stopped.pid, Signal::CONT);
        holders.wait_for("what the stopped one isn't allowed", |entry| {
            entry.event == Stale && entry.pid == stopped.pid && entry.token == stopped.token
        });
        holders.kill(next.pid);
        let again = holders.wait_for_next(next.token);
        assert_eq!(again.pid, stopped.pid);
        holders.wait_for("what the store takes again", |entry| {
            entry.event == Recorded && entry.token >= again.token
        });
        holders.check();
    }
}

/// A holder that is stopped for longer than the ttl and then goes on: it holds the lease all the time.
pub(crate) fn stopped_holder_keeps_it(place: &Place) {
    let mut holders = Holders::new(Delivery::AtLeastOnce, SHORT);
    for _ in 0..2 {
        holders.start(place);
    }
    let stopped = holders.wait_for_next(0);
    holders.signal(stopped.pid, Signal::STOP);
    // Nothing is to happen.
    sleep(place.ttl * 3);
    let continued = Instant::now();
    holders.signal(stopped.pid, Signal::CONT);
    let next = holders.wait_for("more work", |entry| {
        entry.event == Start && entry.at > continued
    });
    assert_eq!((next.pid, next.token), (stopped.pid, stopped.token));
    holders.wait_for("its record", |entry| {
        entry.event == Recorded && entry.at > continued
    });
    holders.kill(stopped.pid);
    holders.wait_for_next(stopped.token);
    holders.check();
}

/// A timer that is stopped in a tick for longer than the ttl and then goes on: it drops the tick before it is polled again.
#[cfg(feature = "stores")]
pub(crate) fn stopped_timer_drops_its_tick(place: &Place) {
    let place = place.clone().for_timers();
    for (delivery, name) in [
        (Delivery::AtLeastOnce, "timers, one"),
        (Delivery::AtMostOnce, "timers, other"),
    ] {
        let place = place.clone().named(name);
        let mut holders = Holders::new(delivery, LONG);
        for _ in 0..2 {
            holders.start(&place);
        }
        let stopped = holders.wait_for_next(0);
        holders.signal(stopped.pid, Signal::STOP);
        let next = holders.wait_for_next(stopped.token);
        assert_ne!(next.pid, stopped.pid);
        holders.signal(stopped.pid, Signal::CONT);
        holders.wait_for("work of the next", |entry| {
            entry.event == Done && entry.token == next.token && entry.n > next.n + 1
        });
        holders.kill(next.pid);
        let again = holders.wait_for_next(next.token);
        assert_eq!(again.pid, stopped.pid);
        holders.wait_for("what the store takes again", |entry| {
            entry.event == Recorded && entry.token >= again.token
        });
        holders.assert_idle(stopped.pid, stopped.token, next.at);
        holders.check();
    }
}

/// The store crashes under its holders, and comes back.
#[cfg(feature = "stores")]
pub(crate) fn restarts(place: &Place, delivery: Delivery, mut restart: impl FnMut()) {
    let mut holders = Holders::new(delivery, SHORT);
    for _ in 0..2 {
        holders.start(place);
    }
    holders.wait_for_next(0);
    for _ in 0..3 {
        restart();
        let back = Instant::now();
        holders.wait_for("work after the restart", |entry| {
            entry.event == Done && entry.at > back
        });
    }
    let current = holders.wait_for("more work", |entry| entry.event == Start);
    holders.kill(current.pid);
    holders.wait_for("work of the other", |entry| {
        entry.event == Recorded && entry.pid != current.pid
    });
    holders.check();
}

/// A holder is cut off from the store while another isn't, and then again isn't: the store refuses what it records.
#[cfg(feature = "stores")]
pub(crate) fn partition(near: &Place, far: &Place, proxy: &Proxy) {
    for (delivery, name) in [
        (Delivery::AtLeastOnce, "one"),
        (Delivery::AtMostOnce, "other"),
    ] {
        let (near, far) = (near.clone().named(name), far.clone().named(name));
        let mut holders = Holders::new(delivery, SHORT);
        let cut_off = holders.start(&far);
        let holds = holders.wait_for_next(0);
        assert_eq!(holds.pid, cut_off);
        let other = holders.start(&near);
        proxy.cut();
        let next = holders.wait_for_next(holds.token);
        assert_eq!(next.pid, other);
        proxy.heal();
        holders.wait_for("what the one cut off isn't allowed", |entry| {
            entry.event == Stale && entry.pid == cut_off && entry.token == holds.token
        });
        holders.kill(other);
        let again = holders.wait_for_next(next.token);
        assert_eq!(again.pid, cut_off);
        holders.wait_for("what the store takes again", |entry| {
            entry.event == Recorded && entry.token >= again.token
        });
        holders.check();
    }
}
