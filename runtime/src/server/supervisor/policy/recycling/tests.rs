use super::super::event::{Action as A, Event as E, Report as R, *};
use super::super::harness::*;
use crate::server::line::Role;
use crate::server::stop::StopReason;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn recycling(role: Role, worn: Worn) -> [A; 2] {
    let (slots, only, image) = (1, Some(role), Image(0));
    [
        A::Report(R::Recycling { role, worn }),
        A::Report(R::RollStarted { slots, only, image }),
    ]
}

fn hourly() -> Config {
    Config {
        recycle_after: Some(HOUR),
        ..config()
    }
}

#[test]
fn a_worker_whose_time_is_over_is_rolled_and_the_next_one_after_it() {
    let mut server = Server::serving(hourly());
    assert_eq!(server.wait(HOUR - ms(1)), []);
    let actions = server.wait(ms(1));
    let [why, roll] = recycling(S0, Worn::Time(HOUR));
    assert_eq!(actions, [why, roll, spawn(2, S0, 0)], "one at a time");
    let actions = server.ready(2);
    assert_eq!(actions[1], server.stop(0, StopReason::Restart, 25 * SECOND));
    let [why, roll] = recycling(S1, Worn::Time(HOUR));
    assert_eq!(
        server.clean(0),
        [A::Report(R::RollDone), why, roll, spawn(3, S1, 0)]
    );
    server.ready(3);
    assert_eq!(server.clean(1), [A::Report(R::RollDone)]);
    assert_eq!(server.policy.next_deadline(), Some(server.now + HOUR));
}

#[test]
fn no_worker_is_recycled_before_it_was_ready_for_60_s() {
    let mut server = Server::serving(config());
    let worn = Worn::Connections(100_000);
    assert_eq!(server.on(E::Worn(id(1), worn)), []);
    assert_eq!(server.on(E::Worn(id(1), Worn::Memory(1))), []);
    assert_eq!(server.wait(60 * SECOND - ms(1)), []);
    let [why, roll] = recycling(S1, worn);
    assert_eq!(server.wait(ms(1)), [why, roll, spawn(2, S1, 0)]);

    let mut server = Server::serving(Config {
        recycle_after: Some(SECOND),
        ..config()
    });
    assert_eq!(server.wait(60 * SECOND - ms(1)), []);
    assert_eq!(server.wait(ms(1)).len(), 3);
}

#[test]
fn a_recycling_that_is_given_up_is_tried_again_after_a_backoff() {
    let mut server = Server::serving(config());
    server.on(E::Worn(id(0), Worn::Memory(1)));
    server.wait(60 * SECOND);
    for (number, delay) in [(2, 100), (3, 200), (4, 400)] {
        let (role, mixed) = (S0, false);
        let given_up = [A::Report(R::RollGivenUp { role, mixed })];
        assert_eq!(server.failed(number), given_up);
        assert_eq!(server.wait(ms(delay - 1)), []);
        let again = deeds(server.wait(ms(1)));
        assert_eq!(again, [spawn(number + 1, S0, 0)]);
    }
    server.ready(5);
    server.clean(0);
    assert_eq!(server.policy.slots[0].recycle_streak, 0);
    assert_eq!(server.policy.next_deadline(), None);
}

#[test]
fn a_recycling_waits_for_a_reload_which_makes_it_unnecessary() {
    let mut server = Server::serving(hourly());
    server.wait(HOUR - SECOND);
    server.on(E::Reload);
    server.wait(2 * SECOND);
    server.ready(2);
    server.ready(3);
    server.clean(0);
    assert_eq!(server.clean(1), [A::Report(R::RollDone)]);
}

#[test]
fn a_server_that_goes_recycles_nobody() {
    let mut server = Server::serving(Config {
        drain_delay: 10 * SECOND,
        ..hourly()
    });
    server.wait(HOUR - SECOND);
    server.on(E::StopSignal(TERM));
    assert_eq!(server.wait(9 * SECOND), []);
}

#[test]
fn who_runs_to_completion_is_not_recycled() {
    let mut server = Server::serving(Config {
        run_to_completion: true,
        ..hourly()
    });
    assert_eq!(server.wait(2 * HOUR), []);
}

#[test]
fn a_suspend_counts_for_nothing() {
    let mut server = Server::serving(hourly());
    server.policy.gap(SECOND);
    assert_eq!(server.wait(HOUR), []);
    assert_eq!(server.wait(SECOND).len(), 3);
}
