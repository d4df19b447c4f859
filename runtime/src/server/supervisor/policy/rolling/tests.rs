use super::super::event::{Action as A, Event as E, Report as R, *};
use super::super::harness::*;
use crate::server::OnFailure;
use crate::server::line::Role;
use crate::server::stop::StopReason;

#[test]
fn serving_worker_signalled_rolls_its_slot_with_its_image() {
    let mut server = Server::serving(config());
    assert_eq!(
        server.on(E::WorkerSignalled(id(1), TERM)),
        [
            A::Report(R::RollStarted {
                slots: 1,
                only: Some(S1),
                image: Image(0)
            }),
            spawn(2, S1, 0)
        ]
    );
    assert_eq!(server.on(E::WorkerSignalled(id(1), INT)), []);
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
            role: S1,
            mixed: false
        })]
    );
    assert_eq!(server.policy.next_deadline(), None);
}

#[test]
fn a_restart_rolls_its_slot_with_its_image_and_waits_for_its_turn() {
    let mut server = Server::serving(config());
    let started = |role| {
        A::Report(R::RollStarted {
            slots: 1,
            only: Some(role),
            image: Image(0),
        })
    };
    assert_eq!(server.on(E::Restart(S1)), [started(S1), spawn(2, S1, 0)]);
    assert_eq!(server.on(E::Restart(S0)), []);
    for nobody in [Role::Slot(9), X0] {
        let told = [A::Report(R::NotRestarted(nobody))];
        assert_eq!(server.on(E::Restart(nobody)), told);
    }
    assert_eq!(
        server.ready(2),
        [
            A::CloseUnasked(id(2)),
            server.stop(1, StopReason::Restart, 25 * SECOND)
        ]
    );
    assert_eq!(
        server.clean(1),
        [A::Report(R::RollDone), started(S0), spawn(3, S0, 0)]
    );
    assert_eq!(
        server.failed(3),
        [A::Report(R::RollGivenUp {
            role: S0,
            mixed: false
        })]
    );
}

/// Those who have asked wait for it.
#[test]
fn a_restart_that_is_no_longer_possible_when_its_turn_comes_is_reported() {
    let not_restarted = |role| A::Report(R::NotRestarted(role));
    // Of a slot that is one too many by then.
    let mut server = Server::serving(config());
    server.on(E::Restart(S0));
    assert_eq!(server.on(E::Restart(S1)), []);
    assert_eq!(server.on(E::ScaleDown), []);
    server.ready(2);
    let actions = server.clean(0);
    assert_eq!(actions[0], A::Report(R::RollDone));
    assert_eq!(actions.last(), Some(&not_restarted(S1)));
    // Also when all are restarted then.
    let mut server = Server::serving(config());
    server.on(E::Restart(S0));
    server.on(E::Restart(S1));
    server.on(E::Reload);
    server.on(E::ScaleDown);
    server.ready(2);
    let actions = server.clean(0);
    assert_eq!(actions[0], A::Report(R::RollDone));
    let told: Vec<usize> = (0..actions.len())
        .filter(|at| actions[*at] == not_restarted(S1))
        .collect();
    let rolls = |action: &Action| matches!(action, A::Report(R::RollStarted { .. }));
    assert_eq!(told.len(), 1, "{actions:?}");
    assert!(actions[told[0]..].iter().any(rolls), "{actions:?}");

    // Of an extra that has ended, and of a slot that has become vacant for good.
    let mut server = Server::serving(Config {
        extra_sync: vec![false],
        on_failure: OnFailure::Ignore,
        ..config()
    });
    server.on(E::Restart(S0));
    server.on(E::Restart(S1));
    server.on(E::Restart(X0));
    server.clean(0);
    server.failed(2);
    server.ready(3);
    assert_eq!(
        server.clean(1),
        [A::Report(R::RollDone), not_restarted(S1), not_restarted(X0)]
    );
}

#[test]
fn serving_hup_rolls_all_slots_with_a_new_image_and_predecessors_drain_side_by_side() {
    let mut server = Server::serving(config());
    assert_eq!(
        server.on(E::Reload),
        [
            A::Report(R::RollStarted {
                slots: 2,
                only: None,
                image: Image(1)
            }),
            spawn(2, S0, 1)
        ]
    );
    assert_eq!(
        server.ready(2),
        [
            A::CloseUnasked(id(2)),
            server.stop(0, StopReason::Restart, 25 * SECOND),
            spawn(3, S1, 1)
        ]
    );
    assert_eq!(
        server.ready(3),
        [
            A::CloseUnasked(id(3)),
            server.stop(1, StopReason::Restart, 25 * SECOND)
        ]
    );
    assert_eq!(server.clean(1), []);
    // What an old worker fails at while it leaves is only logged.
    assert_eq!(server.failed(0), [A::Report(R::RollDone)]);
    assert!(server.policy.uses(Image(1)) && !server.policy.uses(Image(0)));
}

#[test]
fn as_many_predecessors_drain_at_once_as_the_overlap_says() {
    let rolling = |roll_overlap| {
        let mut server = Server::serving(Config {
            workers: 3,
            roll_overlap,
            ..config()
        });
        server.on(E::Reload);
        server
    };
    let mut server = rolling(1);
    assert_eq!(server.ready(3).len(), 2);
    assert_eq!(server.clean(0), [spawn(4, S1, 1)]);
    server.ready(4);
    assert_eq!(server.clean(1), [spawn(5, S2, 1)]);
    server.ready(5);
    assert_eq!(server.clean(2), [A::Report(R::RollDone)]);

    let mut server = rolling(2);
    assert_eq!(server.ready(3).last(), Some(&spawn(4, S1, 1)));
    assert_eq!(server.ready(4).len(), 2);
    assert_eq!(server.clean(1), [spawn(5, S2, 1)]);
}

#[test]
fn a_slot_that_still_has_an_old_worker_waits_and_the_others_do_not() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.on(E::Ending(id(0), Ending::Failed));
    server.wait(ms(100));
    server.ready(2);
    assert_eq!(deeds(server.on(E::Reload)), [spawn(3, S1, 1)]);
    server.ready(3);
    assert_eq!(server.clean(1), []);
    assert_eq!(server.clean(0), [spawn(4, S0, 1)]);
    server.ready(4);
    assert_eq!(server.clean(2), [A::Report(R::RollDone)]);
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
fn serving_hup_rolls_extras_after_the_workers_one_at_a_time_each_gone_before_it_comes() {
    let mut server = Server::serving(Config {
        extra_sync: vec![false, true],
        workers: 1,
        ..config()
    });
    server.on(E::Reload);
    assert_eq!(server.ready(3).len(), 2);
    let stop = |server: &Server, number| server.stop(number, StopReason::Restart, 25 * SECOND);
    assert_eq!(server.clean(2), [stop(&server, 0)]);
    assert_eq!(server.clean(0), [spawn(4, X0, 1)]);
    assert_eq!(server.ready(4), [A::CloseUnasked(id(4)), stop(&server, 1)]);
    // What it fails at while it leaves is only logged.
    assert_eq!(server.failed(1), [spawn(5, X1, 1), A::Report(R::RollDone)]);
    assert!(!server.policy.uses(Image(0)));
}

#[test]
fn roll_new_extra_that_fails_to_start_is_given_up_and_the_old_comes_again() {
    let mut server = Server::serving(Config {
        extra_sync: vec![false],
        workers: 1,
        ..config()
    });
    server.on(E::Reload);
    server.ready(2);
    server.clean(1);
    server.clean(0);
    let (role, mixed) = (X0, true);
    assert_eq!(
        server.failed(3),
        [A::Report(R::RollGivenUp { role, mixed }), spawn(4, X0, 0)]
    );
    // It was ready before, so this is a failure like any other.
    assert_eq!(server.failed(4)[0], server.stopping(StopReason::Failure));
}

#[test]
fn roll_extra_that_is_vacant_or_was_told_already_is_filled() {
    let restarting = Config {
        extra_sync: vec![false],
        workers: 1,
        on_failure: OnFailure::Restart,
        ..config()
    };
    let mut server = Server::serving(restarting.clone());
    server.failed(0);
    server.on(E::Reload);
    server.ready(2);
    assert_eq!(server.clean(1), [spawn(3, X0, 1)]);
    assert_eq!(
        server.ready(3),
        [A::CloseUnasked(id(3)), A::Report(R::RollDone)]
    );
    assert_eq!(server.wait(SECOND), []);

    let mut server = Server::serving(restarting);
    server.on(E::WorkerSignalled(id(0), TERM));
    server.on(E::Reload);
    server.ready(2);
    assert_eq!(server.clean(1), []);
    assert_eq!(server.clean(0), [spawn(3, X0, 1)]);
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
    assert_eq!(server.clean(0), []);
    assert_eq!(
        server.failed(3),
        [A::Report(R::RollGivenUp {
            role: S1,
            mixed: true
        })]
    );
    assert!(server.policy.uses(Image(0)) && server.policy.uses(Image(1)));
}

#[test]
fn roll_new_that_returns_unasked_is_told_of() {
    let mut server = Server::serving(config());
    server.on(E::Reload);
    assert_eq!(
        server.clean(2),
        [
            A::Report(R::ReturnedUnasked(id(2))),
            A::Report(R::RollGivenUp {
                role: S0,
                mixed: false
            })
        ]
    );
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
            role: S0,
            mixed: false
        })]
    );
}

#[test]
fn roll_new_killed_by_a_stop_signal_is_spawned_again() {
    let mut server = Server::serving(config());
    server.on(E::Reload);
    assert_eq!(server.killed_by_stop_signal(2), [spawn(3, S0, 1)]);
    assert_eq!(server.ready(3).len(), 3);
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
                role: S0,
                mixed: false
            }),
            A::Report(R::Backoff {
                role: S0,
                delay: ms(100)
            }),
            A::Report(R::SettingsMayDiffer(S0))
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
    assert_eq!(server.policy.target(), 3);
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
fn scaling_up_starts_one_worker_after_the_other() {
    let mut server = Server::serving(Config {
        workers: 1,
        ..config()
    });
    server.on(E::Reload);
    server.on(E::ScaleUp);
    server.on(E::ScaleUp);
    server.ready(1);
    assert_eq!(
        server.clean(0),
        [
            A::Report(R::RollDone),
            A::Report(R::Scaled { from: 1, to: 3 }),
            spawn(2, S1, 1)
        ]
    );
    assert_eq!(server.on(E::Reload), [], "nor at once with a roll");
    assert_eq!(server.ready(2), [A::CloseUnasked(id(2)), spawn(3, S2, 1)]);
    assert_eq!(
        deeds(server.ready(3)),
        [A::CloseUnasked(id(3)), spawn(4, S0, 2)]
    );
}

#[test]
fn scaling_up_that_cannot_start_is_given_up_and_changes_nothing_else() {
    for on_failure in [OnFailure::Shutdown, OnFailure::Restart, OnFailure::Ignore] {
        let mut server = Server::serving(Config {
            on_failure,
            ..config()
        });
        server.on(E::ScaleUp);
        server.on(E::ScaleUp);
        assert_eq!(
            server.failed(2),
            [A::Close(S2), A::Report(R::ScaleGivenUp { slot: 2 })]
        );
        assert_eq!(
            (server.policy.next_deadline(), server.policy.slots.len()),
            (None, 2)
        );

        server.on(E::ScaleUp);
        server.ready(3);
        server.on(E::ScaleUp);
        let given_up = A::Report(R::ScaleGivenUp { slot: 3 });
        let leaves = server.stop(4, StopReason::Failure, 25 * SECOND);
        assert_eq!(
            server.on(E::Ending(id(4), Ending::Failed)),
            [A::Close(Role::Slot(3)), given_up, leaves]
        );
        server.clean(4);
        assert_eq!(
            server.policy.slots.len(),
            3,
            "the one that could start stays"
        );
    }
}

#[test]
fn new_slots_take_the_image_of_the_last_roll_that_was_completed() {
    let mut server = Server::serving(config());
    server.on(E::Reload);
    server.ready(2);
    server.failed(3);
    server.clean(0);
    assert_eq!(deeds(server.on(E::ScaleUp)), [spawn(4, S2, 0)]);
    server.ready(4);
    server.on(E::Reload);
    for (new, old) in [(5, 2), (6, 1), (7, 4)] {
        server.ready(new);
        server.clean(old);
    }
    assert_eq!(deeds(server.on(E::ScaleUp)), [spawn(8, Role::Slot(3), 2)]);
}

#[test]
fn a_crash_after_a_roll_that_was_given_up_may_bring_newer_settings() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    let warning = A::Report(R::SettingsMayDiffer(S1));
    server.on(E::Reload);
    server.failed(2);
    assert!(server.failed(1).contains(&warning));
    server.wait(SECOND);
    server.ready(3);
    server.on(E::Reload);
    for (new, old) in [(4, 0), (5, 3)] {
        server.ready(new);
        server.clean(old);
    }
    assert!(
        !server.failed(5).contains(&warning),
        "all have the same again"
    );
}

#[test]
fn the_settings_of_a_single_worker_differ_from_nobodys() {
    let mut server = Server::serving(Config {
        workers: 1,
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.on(E::Reload);
    server.failed(1);
    let delay = ms(100);
    assert_eq!(
        server.failed(0),
        [A::Report(R::Backoff { role: S0, delay })]
    );
}

#[test]
fn a_restart_of_a_slot_that_there_is_not_is_reported_and_forgotten() {
    let (mut server, _) = Server::new(config());
    let reported = A::Report(R::NotRestarted(S2));
    assert_eq!(server.on(E::Restart(S2)), [reported]);
    server.on(E::ScaleUp);
    server.ready(0);
    assert_eq!(server.ready(1).last(), Some(&spawn(2, S2, 0)));
    assert_eq!(server.ready(2), [A::CloseUnasked(id(2))]);
}

#[test]
fn a_second_request_does_not_extend_the_deadline_of_one_that_drains() {
    let mut server = Server::serving(Config {
        workers: 1,
        ..config()
    });
    server.on(E::Reload);
    server.ready(1);
    server.wait(10 * SECOND);
    server.on(E::StopSignal(TERM));
    assert_eq!(server.wait(15 * SECOND - ms(1)), []);
    assert_eq!(
        server.wait(ms(1)),
        [A::Report(R::StopTimedOut(id(0))), A::Kill(id(0))]
    );
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
    server.clean(1);
    server.clean(2);
    assert_eq!(deeds(server.on(E::Scale(100))), [spawn(3, S1, 0)]);
    for number in 3..9 {
        let next = spawn(number + 1, Role::Slot(number as usize - 1), 0);
        assert_eq!(server.ready(number), [A::CloseUnasked(id(number)), next]);
    }
    assert_eq!(server.ready(9), [A::CloseUnasked(id(9))]);
}
