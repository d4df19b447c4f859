//! The table of the design, row by row.

use super::{Action as A, Event as E, Report as R, *};

const SECOND: Duration = Duration::from_secs(1);
const TERM: Signal = Signal::SIGTERM;
const INT: Signal = Signal::SIGINT;
const S0: Role = Role::Slot(0);
const S1: Role = Role::Slot(1);
const S2: Role = Role::Slot(2);
const X0: Role = Role::Extra(0);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn id(number: u64) -> WorkerId {
    WorkerId(number)
}

fn spawn(number: u64, role: Role, image: u64) -> Action {
    A::Spawn {
        id: id(number),
        role,
        image: Image(image),
    }
}

fn config() -> Config {
    Config {
        workers: 2,
        max_workers: 8,
        extra_sync: Vec::new(),
        has_main: false,
        isolation: Isolation::Process,
        shutdown_timeout: 25 * SECOND,
        start_timeout: 60 * SECOND,
        on_failure: OnFailure::Shutdown,
        max_restarts: 10,
        restart_window: 60 * SECOND,
        run_to_completion: false,
        jitter: |delay| delay,
    }
}

/// A policy and its clock. Worker ids count from 0 in the order of the spawns: extras first.
struct Server {
    policy: Policy,
    now: Duration,
}

impl Server {
    fn new(config: Config) -> (Server, Vec<Action>) {
        let mut policy = Policy::new(config);
        let now = 1000 * SECOND;
        let actions = policy.start(now);
        (Server { policy, now }, actions)
    }

    /// With everything ready.
    fn serving(config: Config) -> Server {
        let workers = (config.workers + config.extra_sync.len()) as u64;
        let (mut server, _) = Server::new(config);
        if server.policy.state == State::Entering {
            server.on(E::MainEntered);
        }
        for number in 0..workers {
            server.ready(number);
        }
        assert_eq!(server.policy.state, State::Serving);
        server
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.policy.on(self.now, event)
    }

    fn ready(&mut self, number: u64) -> Vec<Action> {
        self.on(E::Ready(id(number)))
    }

    fn failed(&mut self, number: u64) -> Vec<Action> {
        self.on(E::Ended(id(number), Ending::Failed))
    }

    fn clean(&mut self, number: u64) -> Vec<Action> {
        self.on(E::Ended(id(number), Ending::Clean))
    }

    fn killed_by_stop_signal(&mut self, number: u64) -> Vec<Action> {
        self.on(E::Ended(id(number), Ending::KilledByStopSignal))
    }

    /// Lets time pass, acting on every deadline when it is due.
    fn wait(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut actions = Vec::new();
        while let Some(deadline) = self.policy.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            actions.extend(self.policy.tick(self.now));
        }
        self.now = end;
        actions
    }

    fn stop(&self, number: u64, reason: StopReason, after: Duration) -> Action {
        A::Stop {
            id: id(number),
            reason,
            by: self.now + after,
        }
    }

    fn stopping(&self, reason: StopReason) -> Action {
        A::Report(R::Stopping {
            reason,
            by: self.now + 25 * SECOND,
        })
    }
}

/// What the driver does, without what it says.
fn deeds(actions: Vec<Action>) -> Vec<Action> {
    actions
        .into_iter()
        .filter(|action| !matches!(action, A::Report(_)))
        .collect()
}

#[test]
fn entering_main_entered_spawns_extras_then_workers() {
    let (mut server, actions) = Server::new(Config {
        has_main: true,
        extra_sync: vec![false],
        ..config()
    });
    assert_eq!(actions, [A::EnterMain]);
    assert_eq!(server.policy.next_deadline(), None);
    assert_eq!(
        server.on(E::MainEntered),
        [spawn(0, X0, 0), spawn(1, S0, 0), spawn(2, S1, 0)]
    );
}

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
fn starting_last_ready_serves() {
    let (mut server, actions) = Server::new(config());
    assert_eq!(actions, [spawn(0, S0, 0), spawn(1, S1, 0)]);
    assert_eq!(server.ready(1), [A::CloseUnasked(id(1))]);
    assert_eq!(
        server.ready(0),
        [A::CloseUnasked(id(0)), A::Report(R::AllReady)]
    );
    assert_eq!(server.policy.next_deadline(), None);
}

#[test]
fn starting_waits_for_async_extras_but_not_for_sync_ones() {
    let (mut server, _) = Server::new(Config {
        workers: 1,
        extra_sync: vec![true, false],
        ..config()
    });
    assert_eq!(server.ready(2), [A::CloseUnasked(id(2))]);
    assert_eq!(
        server.ready(1),
        [A::CloseUnasked(id(1)), A::Report(R::AllReady)]
    );
}

#[test]
fn starting_queues_hup_ttin_and_ttou() {
    let (mut server, _) = Server::new(Config {
        workers: 1,
        ..config()
    });
    for event in [E::Reload, E::ScaleUp, E::ScaleUp, E::ScaleDown] {
        assert_eq!(server.on(event), []);
    }
    assert_eq!(
        server.ready(0),
        [
            A::CloseUnasked(id(0)),
            A::Report(R::AllReady),
            A::Report(R::Scaled { from: 1, to: 2 }),
            A::Report(R::RollStarted {
                slots: 2,
                image: Image(1)
            }),
            spawn(1, S0, 1),
            spawn(2, S1, 0),
        ]
    );
}

#[test]
fn starting_any_worker_ended_stops_with_1_whatever_the_policy() {
    for on_failure in [OnFailure::Shutdown, OnFailure::Restart, OnFailure::Ignore] {
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
fn starting_killed_by_a_stop_signal_spawns_again() {
    let (mut server, _) = Server::new(config());
    assert_eq!(server.killed_by_stop_signal(0), [spawn(2, S0, 0)]);
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
    assert_eq!(server.policy.slots[0].failures.len(), 1);

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
        isolation: Isolation::Thread,
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
        isolation: Isolation::Thread,
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
fn a_slot_that_was_never_ready_is_parked_too() {
    let mut server = Server::serving(Config {
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.on(E::ScaleUp);
    for (number, delay) in [(2, 100), (3, 200), (4, 400)] {
        assert!(!server.failed(number).contains(&A::Park(S2)));
        server.wait(ms(delay));
    }
    assert!(server.failed(5).contains(&A::Park(S2)), "for 1.5 s");
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
fn usr1_is_told_to_every_worker() {
    let mut server = Server::serving(Config {
        extra_sync: vec![true],
        workers: 1,
        ..config()
    });
    assert_eq!(server.on(E::Tell), [A::Tell(id(0)), A::Tell(id(1))]);
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
fn stopping_drain_deadline_kills_and_exits_3() {
    let mut server = Server::serving(config());
    server.on(E::StopSignal(TERM));
    server.failed(0);
    assert_eq!(
        server.wait(25 * SECOND),
        [A::Report(R::StopTimedOut(id(1))), A::Kill(id(1))]
    );
    assert_eq!(server.failed(1), [A::Exit(3)]);
}

#[test]
fn stopping_stuck_thread_is_named_and_exits_3() {
    let mut server = Server::serving(Config {
        isolation: Isolation::Thread,
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
    assert_eq!(server.on(E::MainLeft(Ending::Failed)), [A::Exit(3)]);
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
fn forced_does_not_wait_for_threads() {
    let mut server = Server::serving(Config {
        isolation: Isolation::Thread,
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
fn completion_may_come_before_ready() {
    let (mut server, _) = Server::new(Config {
        run_to_completion: true,
        ..config()
    });
    server.clean(0);
    assert_eq!(server.ready(1).last(), Some(&A::Report(R::AllReady)));
    assert_eq!(server.clean(1).last(), Some(&A::Exit(0)));
}

#[test]
fn gap_shifts_every_deadline() {
    let mut server = Server::serving(config());
    server.on(E::StopSignal(TERM));
    let deadline = server.policy.next_deadline();
    server.policy.gap(100 * SECOND);
    assert_eq!(
        server.policy.next_deadline(),
        deadline.map(|deadline| deadline + 100 * SECOND)
    );
    server.now += 100 * SECOND;
    // GNU timeout's second one, with the gap between the two.
    assert_eq!(server.on(E::StopSignal(TERM)), []);
}

#[test]
fn endless_timeouts_do_not_overflow() {
    let endless = Config {
        shutdown_timeout: Duration::MAX,
        start_timeout: Duration::MAX,
        restart_window: Duration::MAX,
        has_main: true,
        extra_sync: vec![false],
        ..config()
    };
    let mut server = Server::serving(endless);
    server.on(E::Reload);
    server.on(E::StopSignal(TERM));
    server.policy.gap(SECOND);
    for number in [1, 2, 3, 0] {
        server.clean(number);
    }
    assert_eq!(server.on(E::MainLeft(Ending::Clean)), [A::Exit(0)]);
}

#[test]
fn what_was_cut_off_outweighs_a_failure() {
    for ending in [Ending::Overran, Ending::OverranAndFailed] {
        let mut server = Server::serving(config());
        server.on(E::StopSignal(TERM));
        server.on(E::Ended(id(0), ending));
        assert_eq!(server.clean(1), [A::Exit(3)]);

        let mut server = Server::serving(Config {
            has_main: true,
            ..config()
        });
        server.on(E::StopSignal(TERM));
        server.failed(0);
        server.clean(1);
        assert_eq!(server.on(E::MainLeft(ending)), [A::Exit(3)]);
    }
}
