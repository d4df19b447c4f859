use super::super::event::{Action as A, Event as E, Report as R, *};
use super::super::harness::*;
use crate::server::OnFailure;
use crate::server::stop::StopReason;

#[test]
fn entering_main_failed_exits_2() {
    let (mut server, _) = Server::new(Config {
        has_main: true,
        ..config()
    });
    assert_eq!(server.on(E::MainFailed), [A::Exit(2)]);
    assert_eq!(server.on(E::StopSignal(TERM)), []);
    assert_eq!(server.policy.next_deadline(), None);
}

#[test]
fn entering_stop_signal_drops_the_enter_and_exits_0() {
    let (mut server, _) = Server::new(Config {
        has_main: true,
        ..config()
    });
    let (reason, by) = (StopReason::Signal(TERM), server.now + 25 * SECOND);
    assert_eq!(
        server.on(E::StopSignal(TERM)),
        [server.stopping(reason), A::DropEnter { reason, by }]
    );
    assert_eq!(server.on(E::MainEntered), []);
    assert_eq!(server.on(E::MainLeft(Ending::Clean)), [A::Exit(0)]);
}

#[test]
fn entering_two_stop_signals_force() {
    let (mut server, _) = Server::new(Config {
        has_main: true,
        ..config()
    });
    server.on(E::StopSignal(TERM));
    server.wait(SECOND);
    assert_eq!(
        server.on(E::StopSignal(INT)),
        [A::Report(R::Forced(INT)), A::Exit(130)]
    );
}

#[test]
fn entering_dropped_but_never_gone_exits_3() {
    let (mut server, _) = Server::new(Config {
        has_main: true,
        ..config()
    });
    server.on(E::StopSignal(TERM));
    assert_eq!(
        server.wait(25 * SECOND),
        [A::Report(R::MainTimedOut), A::Exit(3)]
    );
}

#[test]
fn starting_stop_signal_stops_with_0() {
    let (mut server, _) = Server::new(config());
    let reason = StopReason::Signal(INT);
    assert_eq!(
        server.on(E::StopSignal(INT)),
        [
            server.stopping(reason),
            A::Close(S0),
            A::Close(S1),
            server.stop(0, reason, 25 * SECOND),
            server.stop(1, reason, 25 * SECOND),
        ]
    );
    assert_eq!(server.ready(1), []);
    assert_eq!(server.killed_by_stop_signal(0), []);
    assert_eq!(server.clean(1), [A::Exit(0)]);
}

#[test]
fn stopping_goes_from_workers_to_extras_to_main() {
    let mut server = Server::serving(Config {
        extra_sync: vec![true],
        has_main: true,
        ..config()
    });
    let reason = StopReason::Signal(TERM);
    assert_eq!(
        deeds(server.on(E::StopSignal(TERM))),
        [
            A::Close(S0),
            A::Close(S1),
            server.stop(1, reason, 23 * SECOND),
            server.stop(2, reason, 23 * SECOND),
        ]
    );
    server.clean(1);
    assert_eq!(
        server.clean(2),
        [A::Close(X0), server.stop(0, reason, 24 * SECOND)]
    );
    let by = server.now + 25 * SECOND;
    assert_eq!(server.clean(0), [A::LeaveMain { reason, by }]);
    assert_eq!(server.on(E::MainLeft(Ending::Clean)), [A::Exit(0)]);
}

#[test]
fn stopping_failed_teardown_exits_1() {
    let mut server = Server::serving(config());
    server.on(E::StopSignal(TERM));
    server.failed(0);
    assert_eq!(server.clean(1), [A::Exit(1)]);
}

#[test]
fn stopping_drain_deadline_kills_and_exits_3_unless_a_failure_was_told() {
    for (ending, code) in [(Ending::Clean, 3), (Ending::Failed, 1)] {
        let mut server = Server::serving(config());
        server.on(E::StopSignal(TERM));
        server.on(E::Ended(id(0), ending));
        assert_eq!(
            server.wait(25 * SECOND),
            [A::Report(R::StopTimedOut(id(1))), A::Kill(id(1))]
        );
        assert_eq!(server.policy.exit_code(), code, "the watchdog's");
        assert_eq!(server.failed(1), [A::Exit(code)]);
    }
}

#[test]
fn stopping_stuck_thread_is_named_and_exits_3() {
    let mut server = Server::serving(Config {
        can_kill: false,
        ..config()
    });
    server.on(E::StopSignal(TERM));
    server.clean(0);
    assert_eq!(
        server.wait(26 * SECOND),
        [
            A::Report(R::StopTimedOut(id(1))),
            A::Kill(id(1)),
            A::Report(R::Stuck {
                id: id(1),
                total: 1
            }),
            A::Exit(3)
        ]
    );
}

#[test]
fn stopping_leaves_main_its_share_whatever_is_stuck() {
    let config = Config {
        has_main: true,
        shutdown_timeout: SECOND,
        workers: 1,
        ..config()
    };
    let mut server = Server::serving(config);
    server.on(E::StopSignal(TERM));
    let start = server.now;
    assert_eq!(server.wait(ms(500)).last(), Some(&A::Kill(id(0))));
    assert_eq!(
        server.wait(ms(500)),
        [
            A::Report(R::Stuck {
                id: id(0),
                total: 1
            }),
            A::LeaveMain {
                reason: StopReason::Signal(TERM),
                by: start + 2 * SECOND
            },
        ]
    );
    assert_eq!(server.on(E::MainLeft(Ending::Clean)), [A::Exit(3)]);
}

#[test]
fn stopping_signals_within_500_ms_belong_to_the_first() {
    let mut server = Server::serving(config());
    server.on(E::StopSignal(TERM));
    server.wait(ms(500));
    assert_eq!(server.on(E::StopSignal(TERM)), []);
    server.wait(ms(1));
    assert_eq!(
        server.on(E::StopSignal(INT)),
        [A::Report(R::Forced(INT)), A::Kill(id(0)), A::Kill(id(1))]
    );
    assert_eq!(server.failed(0), []);
    assert_eq!(server.failed(1), [A::Exit(130)]);
}

#[test]
fn stopping_for_a_failure_takes_the_first_signal_gracefully() {
    let mut server = Server::serving(config());
    server.failed(0);
    server.wait(SECOND);
    assert_eq!(server.on(E::StopSignal(TERM)), []);
    server.wait(SECOND);
    assert_eq!(
        server.on(E::StopSignal(TERM))[0],
        A::Report(R::Forced(TERM))
    );
}

#[test]
fn forced_waits_a_second_at_most() {
    let mut server = Server::serving(config());
    server.on(E::StopSignal(TERM));
    server.wait(SECOND);
    server.on(E::StopSignal(TERM));
    assert_eq!(server.wait(ms(999)), []);
    assert_eq!(server.wait(ms(1)), [A::Exit(143)]);
}

#[test]
fn forced_gives_those_that_were_killed_before_as_long() {
    let mut server = Server::serving(config());
    server.on(E::Hung(id(0)));
    server.on(E::StopSignal(TERM));
    server.wait(ms(700));
    server.on(E::StopSignal(INT));
    let by = server.now + SECOND;
    assert_eq!(server.policy.next_deadline(), Some(by));
    server.policy.gap(SECOND);
    assert_eq!(server.policy.next_deadline(), Some(by + SECOND));
}

#[test]
fn stopping_gives_one_that_was_killed_before_no_longer_than_the_budget() {
    let mut server = Server::serving(Config {
        workers: 1,
        has_main: true,
        shutdown_timeout: ms(500),
        ..config()
    });
    server.on(E::Hung(id(0)));
    server.on(E::StopSignal(TERM));
    assert_eq!(server.policy.next_deadline(), Some(server.now + ms(500)));
}

#[test]
fn stopping_counts_no_start_of_an_extra() {
    let mut server = Server::serving(Config {
        extra_sync: vec![false],
        start_timeout: 10 * SECOND,
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.failed(0);
    server.wait(ms(100));
    server.on(E::StopSignal(TERM));
    // The worker's share is over before the extra's.
    let by = server.now + 24 * SECOND;
    assert_eq!(server.policy.next_deadline(), Some(by));
    assert_eq!(server.wait(20 * SECOND), []);
}

#[test]
fn forced_does_not_wait_for_threads() {
    let mut server = Server::serving(Config {
        can_kill: false,
        ..config()
    });
    server.on(E::StopSignal(TERM));
    server.wait(SECOND);
    assert_eq!(
        server.on(E::StopSignal(INT)),
        [A::Report(R::Forced(INT)), A::Exit(130)]
    );
}

#[test]
fn leaving_main_failed_exits_2_unless_something_failed_before() {
    for (ending, code) in [(Ending::Clean, 2), (Ending::Failed, 1)] {
        let mut server = Server::serving(Config {
            has_main: true,
            workers: 1,
            ..config()
        });
        server.on(E::StopSignal(TERM));
        server.on(E::Ended(id(0), ending));
        assert_eq!(server.on(E::MainLeft(Ending::Failed)), [A::Exit(code)]);
    }
}

#[test]
fn leaving_main_deadline_exits_3() {
    let mut server = Server::serving(Config {
        has_main: true,
        workers: 1,
        ..config()
    });
    server.on(E::StopSignal(TERM));
    server.clean(0);
    assert_eq!(
        server.wait(25 * SECOND),
        [A::Report(R::MainTimedOut), A::Exit(3)]
    );
}

#[test]
fn leaving_main_second_signal_forces() {
    let mut server = Server::serving(Config {
        has_main: true,
        workers: 1,
        ..config()
    });
    server.on(E::StopSignal(TERM));
    server.clean(0);
    server.wait(SECOND);
    assert_eq!(
        server.on(E::StopSignal(INT)),
        [A::Report(R::Forced(INT)), A::Exit(130)]
    );
}

#[test]
fn what_was_cut_off_does_not_outweigh_a_failure() {
    for (ending, code) in [(Ending::Overran, 3), (Ending::OverranAndFailed, 1)] {
        let mut server = Server::serving(config());
        server.on(E::StopSignal(TERM));
        server.on(E::Ended(id(0), ending));
        assert_eq!(server.clean(1), [A::Exit(code)]);

        let mut server = Server::serving(config());
        server.failed(0);
        assert_eq!(server.on(E::Ended(id(1), ending)), [A::Exit(1)]);
    }
    for (ending, code) in [(Ending::Overran, 3), (Ending::OverranAndFailed, 2)] {
        let mut server = Server::serving(Config {
            has_main: true,
            ..config()
        });
        server.on(E::StopSignal(TERM));
        server.clean(0);
        server.clean(1);
        assert_eq!(server.on(E::MainLeft(ending)), [A::Exit(code)]);
    }
}

#[test]
fn too_many_failures_keep_their_code_when_the_main_context_is_late() {
    let mut server = Server::serving(Config {
        has_main: true,
        workers: 1,
        on_failure: OnFailure::Restart,
        max_restarts: 0,
        ..config()
    });
    server.failed(0);
    assert_eq!(
        server.wait(25 * SECOND),
        [A::Report(R::MainTimedOut), A::Exit(4)]
    );
}

#[test]
fn a_stop_that_is_requested_is_graceful_and_forces_nothing() {
    let mut server = Server::serving(config());
    let requested = StopReason::Requested;
    assert_eq!(server.on(E::StopRequested)[0], server.stopping(requested));
    server.wait(SECOND);
    assert_eq!(server.on(E::StopRequested), []);
    assert_eq!(server.on(E::StopSignal(TERM)), [], "the first signal");
    server.clean(0);
    assert_eq!(server.clean(1), [A::Exit(0)]);
}

#[test]
fn a_stop_that_is_requested_while_entering_drops_the_main_context() {
    let (mut server, _) = Server::new(Config {
        has_main: true,
        ..config()
    });
    let by = server.now + 25 * SECOND;
    let reason = StopReason::Requested;
    assert_eq!(
        deeds(server.on(E::StopRequested)),
        [A::DropEnter { reason, by }]
    );
    assert_eq!(server.on(E::MainLeft(Ending::Clean)), [A::Exit(0)]);
}

/// Told to go by the signal, with these workers.
fn going(config: Config) -> Server {
    let mut server = Server::serving(Config {
        drain_delay: 5 * SECOND,
        ..config
    });
    let workers = server.policy.workers.len() as u64;
    let reason = StopReason::Signal(TERM);
    let delay = 5 * SECOND;
    let mut expected = vec![A::Report(R::Going { reason, delay })];
    expected.extend((0..workers).map(|number| A::TellGoing(id(number))));
    assert_eq!(server.on(E::StopSignal(TERM)), expected);
    server
}

#[test]
fn a_delay_goes_before_the_stop_and_is_part_of_its_time() {
    let mut server = going(config());
    assert_eq!(server.policy.hard_end(), Some(server.now + 26 * SECOND));
    assert_eq!(server.wait(ms(4999)), []);
    let (reason, by) = (StopReason::Signal(TERM), server.now + ms(20_001));
    let actions = server.wait(ms(1));
    assert_eq!(actions[0], A::Report(R::Stopping { reason, by }));
    let stops = actions
        .iter()
        .filter(|action| matches!(action, A::Stop { by: told, .. } if *told == by));
    assert_eq!(stops.count(), 2);
    server.clean(0);
    assert_eq!(server.clean(1), [A::Exit(0)]);
}

#[test]
fn a_second_signal_ends_the_delay_and_a_third_forces() {
    let mut server = going(config());
    server.wait(ms(500));
    assert_eq!(server.on(E::StopSignal(TERM)), [], "belongs to the first");
    server.wait(ms(1));
    let actions = server.on(E::StopSignal(INT));
    let reason = StopReason::Signal(TERM);
    assert!(matches!(actions[0], A::Report(R::Stopping { reason: told, .. }) if told == reason));
    server.wait(ms(500));
    assert_eq!(server.on(E::StopSignal(INT)), [], "belongs to the second");
    server.wait(ms(1));
    assert_eq!(server.on(E::StopSignal(INT))[0], A::Report(R::Forced(INT)));
}

#[test]
fn a_signal_after_a_request_is_a_first_one() {
    let mut server = Server::serving(Config {
        drain_delay: 5 * SECOND,
        ..config()
    });
    server.on(E::StopRequested);
    assert_eq!(server.on(E::StopSignal(TERM)), []);
    server.wait(ms(501));
    let actions = server.on(E::StopSignal(TERM));
    assert!(matches!(actions[0], A::Report(R::Stopping { .. })));
}

#[test]
fn a_drain_is_a_first_signal_and_forces_nothing_however_often_it_is_asked_for() {
    let mut server = Server::serving(Config {
        drain_delay: 5 * SECOND,
        ..config()
    });
    let (reason, delay) = (StopReason::Requested, 5 * SECOND);
    assert_eq!(
        server.on(E::Drain)[0],
        A::Report(R::Going { reason, delay })
    );
    server.wait(SECOND);
    assert_eq!(server.on(E::Drain), []);
    let actions = server.on(E::StopSignal(TERM));
    assert!(
        matches!(actions[0], A::Report(R::Stopping { .. })),
        "{actions:?}"
    );
    server.wait(SECOND);
    assert_eq!(server.on(E::Drain), []);
    assert_eq!(server.on(E::StopSignal(INT))[0], A::Report(R::Forced(INT)));
}

#[test]
fn a_stop_without_delay_has_none_and_ends_one() {
    let mut server = Server::serving(Config {
        drain_delay: 5 * SECOND,
        ..config()
    });
    let reason = StopReason::Requested;
    assert_eq!(server.on(E::StopWithoutDelay)[0], server.stopping(reason));
    assert_eq!(server.on(E::StopWithoutDelay), []);
    assert_eq!(server.on(E::StopSignal(TERM)), [], "the first one");

    let mut server = going(config());
    let (reason, by) = (StopReason::Signal(TERM), server.now + 25 * SECOND);
    let stopping = A::Report(R::Stopping { reason, by });
    assert_eq!(server.on(E::StopWithoutDelay)[0], stopping);
}

#[test]
fn signals_count_from_the_last_that_counted_without_a_delay_too() {
    let mut server = Server::serving(config());
    for _ in 0..3 {
        server.on(E::StopSignal(TERM));
        server.wait(ms(200));
    }
    assert_eq!(
        server.on(E::StopSignal(TERM))[0],
        A::Report(R::Forced(TERM))
    );
}

#[test]
fn a_server_that_was_never_ready_has_no_delay() {
    let (mut server, _) = Server::new(Config {
        drain_delay: 5 * SECOND,
        ..config()
    });
    let reason = StopReason::Signal(TERM);
    assert_eq!(server.on(E::StopSignal(TERM))[0], server.stopping(reason));
}

#[test]
fn while_going_signals_of_workers_are_swallowed_and_nothing_new_begins() {
    let mut server = going(config());
    assert_eq!(server.on(E::WorkerSignalled(id(0), TERM)), []);
    let refused = |refused| [A::Report(R::Refused(refused))];
    assert_eq!(server.on(E::Reload), refused(Refused::Reload));
    for event in [E::ScaleUp, E::ScaleDown, E::Scale(7)] {
        assert_eq!(server.on(event), refused(Refused::Scale));
    }
    assert_eq!(server.on(E::StopRequested), []);
    assert_eq!(server.on(E::Tell), [A::Tell(id(0)), A::Tell(id(1))]);
}

#[test]
fn while_going_a_crash_is_restarted_or_stops_the_server() {
    let mut server = going(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.failed(0);
    assert_eq!(server.wait(ms(100)), [spawn(2, S0, 0), A::TellGoing(id(2))]);
    assert_eq!(server.ready(2), [A::CloseUnasked(id(2))]);

    let mut server = going(config());
    server.wait(SECOND);
    let (reason, by) = (StopReason::Failure, server.now + 24 * SECOND);
    assert_eq!(server.failed(0)[0], A::Report(R::Stopping { reason, by }));
    assert_eq!(server.clean(1), [A::Exit(1)]);
}

#[test]
fn a_roll_is_given_up_when_the_server_goes() {
    let mut server = Server::serving(Config {
        drain_delay: 5 * SECOND,
        ..config()
    });
    server.on(E::Reload);
    server.ready(2);
    server.on(E::Reload);
    let by = server.now + 25 * SECOND;
    let actions = deeds(server.on(E::StopSignal(TERM)));
    let reason = StopReason::Signal(TERM);
    let told: Vec<_> = [0, 1, 2, 3].map(|number| A::TellGoing(id(number))).into();
    let stop = A::Stop {
        id: id(3),
        reason,
        by,
    };
    assert_eq!(
        actions,
        [told, vec![stop]].concat(),
        "its successor isn't ready"
    );
    assert_eq!(server.clean(0), []);
    assert_eq!(server.clean(3), [], "nothing follows");
    assert!(server.policy.roll.is_none() && !server.policy.reload);
    server.wait(5 * SECOND);
    server.clean(2);
    assert_eq!(server.clean(1), [A::Exit(0)]);
}

#[test]
fn while_going_an_extra_of_a_roll_that_was_cancelled_comes_again_as_it_was() {
    let mut server = Server::serving(Config {
        drain_delay: 5 * SECOND,
        workers: 1,
        extra_sync: vec![false],
        ..config()
    });
    server.on(E::Reload);
    server.ready(2);
    server.clean(1);
    assert_eq!(deeds(server.clean(0)), [spawn(3, X0, 1)]);
    server.on(E::WorkerSignalled(id(3), TERM));
    server.on(E::StopSignal(TERM));
    assert_eq!(server.clean(3)[0], spawn(4, X0, 0));
}
