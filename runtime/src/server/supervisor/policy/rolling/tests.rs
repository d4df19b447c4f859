use super::super::event::{Action as A, Event as E, Report as R, *};
use super::super::harness::*;
use crate::server::OnFailure;
use crate::server::stop::StopReason;

#[test]
fn serving_worker_signalled_rolls_its_slot_with_its_image() {
    let mut server = Server::serving(config());
    assert_eq!(
        server.on(E::WorkerSignalled(id(1), TERM)),
        [
            A::Report(R::RollStarted {
                slots: 1,
                image: Image(0)
            }),
            spawn(2, S1, 0)
        ]
    );
    assert_eq!(server.on(E::WorkerSignalled(id(1), TERM)), []);
    assert_eq!(
        server.ready(2),
        [
            A::CloseUnasked(id(2)),
            server.stop(1, StopReason::Signal(TERM), 25 * SECOND)
        ]
    );
    assert_eq!(server.clean(1), [A::Report(R::RollDone)]);
}

#[test]
fn serving_worker_signalled_and_successor_failed_is_given_up() {
    let mut server = Server::serving(config());
    server.on(E::WorkerSignalled(id(1), TERM));
    assert_eq!(
        server.failed(2),
        [A::Report(R::RollGivenUp {
            slot: 1,
            mixed: false
        })]
    );
    assert_eq!(server.policy.next_deadline(), None);
}

#[test]
fn serving_hup_rolls_one_slot_after_the_other_with_a_new_image() {
    let mut server = Server::serving(config());
    assert_eq!(
        server.on(E::Reload),
        [
            A::Report(R::RollStarted {
                slots: 2,
                image: Image(1)
            }),
            spawn(2, S0, 1)
        ]
    );
    assert_eq!(
        server.ready(2),
        [
            A::CloseUnasked(id(2)),
            server.stop(0, StopReason::Restart, 25 * SECOND)
        ]
    );
    assert_eq!(server.clean(0), [spawn(3, S1, 1)]);
    server.ready(3);
    // What an old worker fails at while it leaves is only logged.
    assert_eq!(server.failed(1), [A::Report(R::RollDone)]);
    assert!(server.policy.uses(Image(1)) && !server.policy.uses(Image(0)));
}

#[test]
fn serving_hup_during_a_roll_rolls_once_again() {
    let mut server = Server::serving(Config {
        workers: 1,
        ..config()
    });
    server.on(E::Reload);
    assert_eq!(server.on(E::Reload), []);
    assert_eq!(server.on(E::Reload), []);
    server.ready(1);
    assert_eq!(deeds(server.clean(0)), [spawn(2, S0, 2)]);
    server.ready(2);
    assert_eq!(server.clean(1), [A::Report(R::RollDone)]);
}

#[test]
fn serving_hup_leaves_extras_alone() {
    let mut server = Server::serving(Config {
        extra_sync: vec![true],
        workers: 1,
        ..config()
    });
    server.on(E::Reload);
    server.ready(2);
    assert_eq!(server.clean(1), [A::Report(R::RollDone)]);
}

#[test]
fn serving_hup_fills_vacant_slots() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Ignore,
        ..config()
    });
    server.failed(0);
    assert_eq!(deeds(server.on(E::Reload)), [spawn(2, S0, 1)]);
    assert_eq!(server.ready(2), [A::CloseUnasked(id(2)), spawn(3, S1, 1)]);
}

#[test]
fn roll_new_ended_is_given_up_and_the_old_stays() {
    let mut server = Server::serving(config());
    server.on(E::Reload);
    server.ready(2);
    assert_eq!(server.clean(0), [spawn(3, S1, 1)]);
    assert_eq!(
        server.failed(3),
        [A::Report(R::RollGivenUp {
            slot: 1,
            mixed: true
        })]
    );
    assert!(server.policy.uses(Image(0)) && server.policy.uses(Image(1)));
}

#[test]
fn roll_start_deadline_of_the_new_gives_up() {
    let mut server = Server::serving(config());
    server.on(E::Reload);
    assert_eq!(
        server.wait(60 * SECOND),
        [A::Report(R::StartTimedOut(id(2))), A::Kill(id(2))]
    );
    assert_eq!(
        server.failed(2),
        [A::Report(R::RollGivenUp {
            slot: 0,
            mixed: false
        })]
    );
}

#[test]
fn roll_new_killed_by_a_stop_signal_is_spawned_again() {
    let mut server = Server::serving(config());
    server.on(E::Reload);
    assert_eq!(server.killed_by_stop_signal(2), [spawn(3, S0, 1)]);
    assert_eq!(server.ready(3).len(), 2);
}

#[test]
fn roll_old_ended_first_makes_the_new_current() {
    let mut server = Server::serving(config());
    server.on(E::Reload);
    assert_eq!(server.failed(0), []);
    assert_eq!(server.ready(2), [A::CloseUnasked(id(2)), spawn(3, S1, 1)]);
}

#[test]
fn roll_old_ended_first_lets_the_failure_of_the_new_count() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.on(E::Reload);
    server.failed(0);
    assert_eq!(
        server.failed(2),
        [
            A::Report(R::RollGivenUp {
                slot: 0,
                mixed: false
            }),
            A::Report(R::Backoff {
                role: S0,
                delay: ms(100)
            })
        ]
    );
    // Not with the image that failed.
    assert_eq!(server.wait(ms(100)), [spawn(3, S0, 0)]);
}

#[test]
fn roll_drain_deadline_kills_the_old() {
    let mut server = Server::serving(Config {
        workers: 1,
        ..config()
    });
    server.on(E::Reload);
    server.ready(1);
    assert_eq!(
        server.wait(25 * SECOND),
        [A::Report(R::StopTimedOut(id(0))), A::Kill(id(0))]
    );
    assert_eq!(server.failed(0), [A::Report(R::RollDone)]);
}

#[test]
fn roll_old_killed_before_the_stop_is_no_failure_of_the_stop() {
    let mut server = Server::serving(Config {
        workers: 1,
        ..config()
    });
    server.on(E::Reload);
    server.ready(1);
    server.wait(25 * SECOND);
    server.on(E::StopSignal(TERM));
    server.failed(0);
    assert_eq!(server.clean(1), [A::Exit(0)]);
}

#[test]
fn roll_stuck_thread_is_left_behind() {
    let config = Config {
        workers: 1,
        can_kill: false,
        ..config()
    };
    let mut server = Server::serving(config);
    server.on(E::Reload);
    server.ready(1);
    server.wait(25 * SECOND);
    assert_eq!(
        server.wait(SECOND),
        [
            A::Report(R::Stuck {
                id: id(0),
                total: 1
            }),
            A::Report(R::RollDone)
        ]
    );
    assert_eq!(server.clean(0), []);
    server.on(E::StopSignal(TERM));
    assert_eq!(server.clean(1), [A::Exit(0)]);
}

#[test]
fn roll_stop_signal_stops_old_and_new() {
    let mut server = Server::serving(config());
    server.on(E::Reload);
    let reason = StopReason::Signal(TERM);
    assert_eq!(
        deeds(server.on(E::StopSignal(TERM))),
        [
            A::Close(S0),
            A::Close(S1),
            server.stop(0, reason, 25 * SECOND),
            server.stop(1, reason, 25 * SECOND),
            server.stop(2, reason, 25 * SECOND),
        ]
    );
    server.clean(2);
    server.clean(0);
    assert_eq!(server.clean(1), [A::Exit(0)]);
}

#[test]
fn scaling_adds_a_slot_and_stops_the_highest() {
    let mut server = Server::serving(config());
    assert_eq!(
        server.on(E::ScaleUp),
        [A::Report(R::Scaled { from: 2, to: 3 }), spawn(2, S2, 0)]
    );
    server.ready(2);
    assert_eq!(
        server.on(E::ScaleDown),
        [
            A::Report(R::Scaled { from: 3, to: 2 }),
            A::Close(S2),
            server.stop(2, StopReason::ScaleDown, 25 * SECOND)
        ]
    );
    // The index is free again, though its last worker still drains.
    assert_eq!(deeds(server.on(E::ScaleUp)), [spawn(3, S2, 0)]);
    server.on(E::ScaleDown);
    // A third at once would be one too many.
    assert_eq!(deeds(server.on(E::ScaleUp)), []);
    assert_eq!(server.clean(2), [spawn(4, S2, 0)]);
}

#[test]
fn scaling_is_clamped() {
    let mut server = Server::serving(Config {
        workers: 1,
        max_workers: 1,
        ..config()
    });
    for event in [E::ScaleUp, E::ScaleDown] {
        assert_eq!(server.on(event), [A::Report(R::ScaleLimit { workers: 1 })]);
    }
}

#[test]
fn scaling_leaves_a_worker_that_serves() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Ignore,
        ..config()
    });
    server.failed(0);
    assert_eq!(
        server.on(E::ScaleDown),
        [A::Report(R::ScaleLimit { workers: 2 })]
    );
}

#[test]
fn scaling_waits_for_a_roll() {
    let mut server = Server::serving(Config {
        workers: 1,
        ..config()
    });
    server.on(E::Reload);
    assert_eq!(server.on(E::ScaleUp), []);
    server.ready(1);
    assert_eq!(deeds(server.clean(0)), [spawn(2, S1, 1)]);
}

#[test]
fn a_number_of_workers_is_scaled_to_within_the_limits() {
    let mut server = Server::serving(config());
    assert_eq!(deeds(server.on(E::Scale(3))), [spawn(2, S2, 0)]);
    server.ready(2);
    let by = 25 * SECOND;
    assert_eq!(
        deeds(server.on(E::Scale(0))),
        [
            A::Close(S2),
            server.stop(2, StopReason::ScaleDown, by),
            A::Close(S1),
            server.stop(1, StopReason::ScaleDown, by),
        ]
    );
    assert_eq!(
        server.on(E::Scale(1)),
        [A::Report(R::ScaleLimit { workers: 1 })]
    );
    let spawned = deeds(server.on(E::Scale(100)));
    let spawned = spawned
        .iter()
        .filter(|deed| matches!(deed, A::Spawn { .. }));
    assert_eq!(spawned.count(), 7);
}
