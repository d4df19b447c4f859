use super::super::event::{Action as A, Event as E, Report as R, *};
use super::super::harness::*;
use super::super::state::*;
use crate::server::OnFailure;
use crate::server::stop::StopReason;

#[test]
fn a_worker_that_ends_before_it_was_ready_stops_the_server_with_1() {
    for on_failure in [OnFailure::Shutdown, OnFailure::Restart] {
        for ending in [Ending::Failed, Ending::Clean] {
            let (mut server, _) = Server::new(Config {
                on_failure,
                ..config()
            });
            server.ready(1);
            assert_eq!(
                deeds(server.on(E::Ended(id(0), ending))),
                [
                    A::Close(S0),
                    A::Close(S1),
                    server.stop(1, StopReason::Failure, 25 * SECOND)
                ]
            );
            assert_eq!(server.clean(1), [A::Exit(1)]);
        }
    }
}

#[test]
fn a_worker_that_ends_before_it_was_ready_is_ignored_until_none_is_left() {
    let config = Config {
        on_failure: OnFailure::Ignore,
        ..config()
    };
    let (mut server, _) = Server::new(config.clone());
    assert_eq!(server.failed(0), [A::Close(S0), A::Report(R::Vacant(S0))]);
    assert_eq!(
        server.ready(1),
        [A::CloseUnasked(id(1)), A::Report(R::AllReady)]
    );
    assert_eq!(server.failed(1).last(), Some(&A::Exit(1)));

    let (mut server, _) = Server::new(config);
    server.failed(0);
    assert_eq!(server.failed(1).last(), Some(&A::Exit(1)));
}

#[test]
fn on_failure_counts_from_the_moment_a_worker_was_ready() {
    let starting = |on_failure| {
        let (mut server, _) = Server::new(Config {
            on_failure,
            ..config()
        });
        server.ready(0);
        server
    };
    let mut server = starting(OnFailure::Restart);
    let delay = ms(100);
    assert_eq!(
        server.failed(0),
        [A::Report(R::Backoff { role: S0, delay })]
    );
    assert_eq!(server.wait(delay), [spawn(2, S0, 0)]);
    let delay = ms(200);
    assert_eq!(
        server.failed(2),
        [A::Report(R::Backoff { role: S0, delay })],
        "its slot was ready"
    );
    server.wait(delay);
    server.ready(3);
    assert_eq!(
        server.ready(1),
        [A::CloseUnasked(id(1)), A::Report(R::AllReady)]
    );

    let mut server = starting(OnFailure::Ignore);
    assert_eq!(server.failed(0), [A::Close(S0), A::Report(R::Vacant(S0))]);
    assert_eq!(
        server.ready(1),
        [A::CloseUnasked(id(1)), A::Report(R::AllReady)]
    );

    let mut server = starting(OnFailure::Shutdown);
    assert_eq!(server.failed(0)[0], server.stopping(StopReason::Failure));
}

#[test]
fn starting_killed_by_a_stop_signal_spawns_again() {
    let (mut server, _) = Server::new(config());
    assert_eq!(server.killed_by_stop_signal(0), [spawn(2, S0, 0)]);
}

#[test]
fn starting_start_deadline_kills_then_stops_with_1() {
    let (mut server, _) = Server::new(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.ready(0);
    assert_eq!(
        server.wait(60 * SECOND),
        [A::Report(R::StartTimedOut(id(1))), A::Kill(id(1))]
    );
    assert_eq!(server.failed(1)[0], server.stopping(StopReason::Failure));
    assert_eq!(server.clean(0), [A::Exit(1)]);
}

#[test]
fn serving_failure_with_shutdown_stops_with_1() {
    let mut server = Server::serving(config());
    assert_eq!(
        server.failed(0),
        [
            server.stopping(StopReason::Failure),
            A::Close(S0),
            A::Close(S1),
            server.stop(1, StopReason::Failure, 25 * SECOND),
        ]
    );
    assert_eq!(server.clean(1), [A::Exit(1)]);
}

#[test]
fn serving_failure_with_ignore_closes_until_none_is_left() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Ignore,
        ..config()
    });
    assert_eq!(server.failed(0), [A::Close(S0), A::Report(R::Vacant(S0))]);
    assert_eq!(server.failed(1).last(), Some(&A::Exit(1)));
}

#[test]
fn serving_failure_with_restart_backs_off_and_gives_up() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    let mut number = 0;
    for delay in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000] {
        let mut expected = vec![A::Report(R::Backoff {
            role: S0,
            delay: ms(delay),
        })];
        if delay > 1000 {
            expected.push(A::Park(S0));
        }
        assert_eq!(server.failed(number), expected);
        assert_eq!(server.wait(ms(delay - 1)), []);
        number = server.policy.next_id;
        assert_eq!(server.wait(ms(1)), [spawn(number, S0, 0)]);
        server.ready(number);
    }
    let actions = server.failed(number);
    assert_eq!(
        actions[0],
        A::Report(R::TooManyFailures {
            role: S0,
            failures: 11
        })
    );
    assert_eq!(
        actions.last(),
        Some(&server.stop(1, StopReason::Failure, 25 * SECOND))
    );
    assert_eq!(server.clean(1), [A::Exit(4)]);
}

#[test]
fn serving_backoff_is_reset_by_a_restart_window_of_being_ready() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.failed(0);
    server.wait(SECOND);
    server.failed(2);
    server.wait(SECOND);
    server.ready(3);
    server.wait(60 * SECOND);
    assert_eq!(
        server.failed(3),
        [A::Report(R::Backoff {
            role: S0,
            delay: ms(100)
        })]
    );
}

#[test]
fn serving_backoff_is_reset_before_a_hang_and_a_roll_too() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.failed(0);
    server.wait(SECOND);
    server.ready(2);
    server.wait(60 * SECOND);
    server.on(E::Hung(id(2)));
    let backoff = A::Report(R::Backoff {
        role: S0,
        delay: ms(100),
    });
    assert_eq!(server.failed(2), [backoff]);
    server.wait(SECOND);
    server.ready(3);
    server.wait(60 * SECOND);
    server.on(E::WorkerSignalled(id(3), TERM));
    server.ready(4);
    server.clean(3);
    assert_eq!(server.failed(4), [backoff]);
}

#[test]
fn serving_return_unasked_is_a_failure() {
    let mut server = Server::serving(config());
    assert_eq!(server.clean(0)[0], A::Report(R::ReturnedUnasked(id(0))));
    assert_eq!(server.clean(1), [A::Exit(1)]);
}

#[test]
fn serving_ending_vacates_the_slot_before_the_worker_is_gone() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    let ending = E::Ending(id(0), Ending::Failed);
    let backoff = A::Report(R::Backoff {
        role: S0,
        delay: ms(100),
    });
    let stop = server.stop(0, StopReason::Failure, 25 * SECOND);
    assert_eq!(server.on(ending), [backoff, stop]);
    assert_eq!(server.wait(ms(100)), [spawn(2, S0, 0)]);
    server.ready(2);
    assert_eq!(server.clean(0), [], "counted before");
    assert_eq!(server.policy.slots[0].backoff.failures().len(), 1);

    server.on(E::Ending(id(2), Ending::Clean));
    server.wait(ms(500));
    let actions = deeds(server.on(E::Ending(id(3), Ending::Failed)));
    let stop = server.stop(3, StopReason::Failure, 25 * SECOND);
    assert_eq!(actions, [stop, A::Park(S0)], "as no third worker may come");
    assert_eq!(server.wait(SECOND), []);
    assert_eq!(server.clean(2), [spawn(4, S0, 0)]);
    assert!(
        server
            .wait(25 * SECOND)
            .contains(&A::Report(R::StopTimedOut(id(3)))),
        "it has a deadline"
    );
}

#[test]
fn serving_ending_with_shutdown_tells_the_worker_its_share_of_the_time() {
    let mut server = Server::serving(config());
    let actions = deeds(server.on(E::Ending(id(0), Ending::Failed)));
    let stop = |number| server.stop(number, StopReason::Failure, 25 * SECOND);
    assert_eq!(actions, [A::Close(S0), A::Close(S1), stop(0), stop(1)]);
    server.clean(1);
    assert_eq!(deeds(server.clean(0)), [A::Exit(1)]);
}

#[test]
fn serving_hung_kills_and_counts() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    assert_eq!(server.on(E::Hung(id(0))), [A::Kill(id(0))]);
    assert_eq!(server.on(E::Hung(id(0))), []);
    assert_eq!(
        server.failed(0),
        [A::Report(R::Backoff {
            role: S0,
            delay: ms(100)
        })]
    );
}

#[test]
fn serving_hung_thread_is_left_alone() {
    let mut server = Server::serving(Config {
        can_kill: false,
        ..config()
    });
    assert_eq!(server.on(E::Hung(id(0))), []);
}

#[test]
fn serving_start_deadline_counts_as_failure() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.failed(0);
    assert_eq!(
        server.wait(ms(60_100)),
        [
            spawn(2, S0, 0),
            A::Park(S0),
            A::Report(R::StartTimedOut(id(2))),
            A::Kill(id(2))
        ]
    );
    assert_eq!(
        server.failed(2),
        [
            A::Report(R::Backoff {
                role: S0,
                delay: ms(200)
            }),
            A::Park(S0)
        ]
    );
}

#[test]
fn serving_successors_that_fail_to_start_leave_the_slot_listening_for_1_s_at_most() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    let mut parked = vec![server.failed(0).contains(&A::Park(S0))];
    for (number, delay) in [(2, 100), (3, 200), (4, 400), (5, 800)] {
        server.wait(ms(delay));
        parked.push(server.failed(number).contains(&A::Park(S0)));
    }
    assert_eq!(parked, [false, false, false, true, true]);

    for (running, parked) in [(700, false), (701, true)] {
        let mut server = Server::serving(Config {
            on_failure: OnFailure::Restart,
            ..config()
        });
        server.failed(0);
        server.wait(ms(100 + running));
        assert_eq!(server.failed(2).contains(&A::Park(S0)), parked);
    }
}

#[test]
fn serving_successor_that_starts_for_5_s_has_its_slot_parked() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.failed(0);
    assert_eq!(server.wait(ms(5099)), [spawn(2, S0, 0)]);
    assert_eq!(server.wait(ms(1)), [A::Park(S0)]);
    server.ready(2);
    assert_eq!(server.policy.next_deadline(), None);
}

#[test]
fn serving_ended_after_a_reported_signal_spawns_at_once() {
    let mut server = Server::serving(Config {
        extra_sync: vec![false],
        ..config()
    });
    server.on(E::WorkerSignalled(id(0), TERM));
    assert_eq!(server.failed(0), [spawn(3, X0, 0)]);
    assert_eq!(server.killed_by_stop_signal(3), [spawn(4, X0, 0)]);
}

#[test]
fn serving_extra_signalled_goes_before_it_comes() {
    let mut server = Server::serving(Config {
        extra_sync: vec![false],
        ..config()
    });
    assert_eq!(
        server.on(E::WorkerSignalled(id(0), TERM)),
        [server.stop(0, StopReason::Signal(TERM), 25 * SECOND)]
    );
    assert_eq!(server.clean(0), [spawn(3, X0, 0)]);
}

#[test]
fn serving_extra_signalled_and_killed_at_its_deadline_comes_again() {
    let mut server = Server::serving(Config {
        extra_sync: vec![false],
        ..config()
    });
    server.on(E::WorkerSignalled(id(0), TERM));
    assert_eq!(
        server.wait(25 * SECOND),
        [A::Report(R::StopTimedOut(id(0))), A::Kill(id(0))]
    );
    assert_eq!(server.failed(0), [spawn(3, X0, 0)]);
}

#[test]
fn a_slow_starter_that_got_ready_is_not_vacant_any_more() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.failed(0);
    assert!(server.wait(6 * SECOND).contains(&A::Park(S0)));
    server.ready(2);
    let delay = ms(200);
    assert_eq!(
        server.failed(2),
        [A::Report(R::Backoff { role: S0, delay })],
        "its backlog waits"
    );
}

#[test]
fn extras_that_fail_before_the_workers_start_are_failures_to_start() {
    for (on_failure, stops) in [
        (OnFailure::Shutdown, true),
        (OnFailure::Restart, true),
        (OnFailure::Ignore, false),
    ] {
        let (mut server, _) = Server::new(Config {
            on_failure,
            extra_sync: vec![false],
            ..config()
        });
        let actions = server.failed(0);
        match stops {
            true => assert_eq!(actions.last(), Some(&A::Exit(1))),
            false => assert_eq!(
                actions,
                [
                    A::Close(X0),
                    A::Report(R::Vacant(X0)),
                    spawn(1, S0, 0),
                    spawn(2, S1, 0)
                ]
            ),
        }
    }
}

#[test]
fn an_extra_that_returns_has_ended() {
    let mut server = Server::serving(Config {
        extra_sync: vec![false],
        workers: 1,
        ..config()
    });
    assert_eq!(
        server.clean(0),
        [A::Report(R::ExtraEnded(X0)), A::Close(X0)]
    );
    server.on(E::Reload);
    server.ready(2);
    assert_eq!(
        server.clean(1),
        [A::Report(R::RollDone)],
        "it isn't started again"
    );
    server.on(E::StopSignal(TERM));
    assert_eq!(server.clean(2).last(), Some(&A::Exit(0)));

    let (mut server, _) = Server::new(Config {
        extra_sync: vec![false],
        workers: 1,
        ..config()
    });
    let ended = [A::Report(R::ExtraEnded(X0)), A::Close(X0), spawn(1, S0, 0)];
    assert_eq!(server.clean(0), ended, "before it was ready");
    assert_eq!(
        server.ready(1),
        [A::CloseUnasked(id(1)), A::Report(R::AllReady)]
    );
}

#[test]
fn extras_fail_by_the_same_policy() {
    for (on_failure, expected) in [
        (
            OnFailure::Ignore,
            vec![A::Close(X0), A::Report(R::Vacant(X0))],
        ),
        (
            OnFailure::Restart,
            vec![A::Report(R::Backoff {
                role: X0,
                delay: ms(100),
            })],
        ),
    ] {
        let mut server = Server::serving(Config {
            on_failure,
            extra_sync: vec![true],
            ..config()
        });
        assert_eq!(server.failed(0), expected);
        assert_eq!(server.policy.state, State::Serving);
    }
    let mut server = Server::serving(Config {
        extra_sync: vec![true],
        ..config()
    });
    assert_eq!(server.failed(0)[0], server.stopping(StopReason::Failure));
}

#[test]
fn completion_of_the_last_worker_ends_the_server() {
    let mut server = Server::serving(Config {
        run_to_completion: true,
        extra_sync: vec![true],
        ..config()
    });
    assert_eq!(server.clean(1), [A::Close(S0)]);
    let actions = server.clean(2);
    assert_eq!(actions[1], server.stopping(StopReason::Completed));
    assert_eq!(
        actions.last(),
        Some(&server.stop(0, StopReason::Completed, 25 * SECOND))
    );
    assert_eq!(server.clean(0), [A::Exit(0)]);
}

#[test]
fn completion_does_not_outweigh_a_failure() {
    let mut server = Server::serving(Config {
        run_to_completion: true,
        ..config()
    });
    server.clean(0);
    assert_eq!(server.failed(1).last(), Some(&A::Exit(1)));
}

#[test]
fn completion_of_the_others_is_waited_for_when_one_fails() {
    let completing = Config {
        run_to_completion: true,
        workers: 3,
        max_restarts: 0,
        ..config()
    };
    for (on_failure, code) in [(OnFailure::Shutdown, 1), (OnFailure::Restart, 4)] {
        let mut server = Server::serving(Config {
            on_failure,
            ..completing.clone()
        });
        let vacant = [A::Close(S1), A::Report(R::Vacant(S1))];
        assert!(server.failed(1).ends_with(&vacant));
        assert_eq!(server.clean(0), [A::Close(S0)]);
        assert_eq!(server.clean(2).last(), Some(&A::Exit(code)));

        let mut server = Server::serving(Config {
            on_failure,
            ..completing.clone()
        });
        server.failed(1);
        server.on(E::StopSignal(TERM));
        server.clean(0);
        assert_eq!(server.clean(2), [A::Exit(code)], "told before the signal");
    }

    let (mut server, _) = Server::new(completing);
    assert_eq!(
        server.failed(1),
        [A::Close(S1), A::Report(R::Vacant(S1))],
        "not yet ready"
    );
    server.clean(0);
    assert_eq!(server.clean(2).last(), Some(&A::Exit(1)));
}

#[test]
fn completion_may_come_before_ready() {
    let (mut server, _) = Server::new(Config {
        run_to_completion: true,
        ..config()
    });
    server.clean(0);
    assert_eq!(server.ready(1).last(), Some(&A::Report(R::AllReady)));
    assert_eq!(server.clean(1).last(), Some(&A::Exit(0)));
}
