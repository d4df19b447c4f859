use super::super::event::{Action as A, Event as E, Report as R, *};
use super::super::harness::*;
use crate::server::line::Role;
use crate::server::stop::StopReason;

const UNDER_WAY: A = A::Report(R::UpgradeUnderWay);
const REFUSED: A = A::Report(R::Refused(Refused::Upgrade));

#[test]
fn a_second_one_while_one_goes_on_is_only_told() {
    let mut server = Server::serving(config());
    assert_eq!(server.on(E::Upgrade), [A::Upgrade]);
    assert_eq!(server.on(E::Upgrade), [UNDER_WAY]);
    assert_eq!(server.on(E::UpgradeOver), []);
    assert_eq!(server.on(E::Upgrade), [A::Upgrade]);
}

#[test]
fn one_that_comes_too_early_waits() {
    let (mut server, _) = Server::new(config());
    assert_eq!(server.on(E::Upgrade), []);
    server.ready(0);
    assert!(server.ready(1).contains(&A::Upgrade));

    let mut server = Server::serving(Config {
        workers: 1,
        ..config()
    });
    server.on(E::Reload);
    assert_eq!(server.on(E::Upgrade), []);
    server.ready(1);
    assert_eq!(server.clean(0), [A::Report(R::RollDone), A::Upgrade]);
}

#[test]
fn rolls_and_changes_of_the_number_wait_until_it_is_over() {
    let mut server = Server::serving(config());
    server.on(E::Upgrade);
    assert_eq!(server.on(E::Reload), []);
    assert_eq!(server.on(E::ScaleUp), []);
    assert_eq!(server.on(E::Restart(Role::Slot(0))), []);
    let (from, to) = (2, 3);
    let actions = server.on(E::UpgradeOver);
    assert_eq!(actions[0], A::Report(R::Scaled { from, to }));
    let actions = server.ready(2);
    assert!(
        matches!(actions[1], A::Report(R::RollStarted { slots: 3, .. })),
        "{actions:?}"
    );
}

#[test]
fn a_crash_is_mended_meanwhile() {
    let mut server = Server::serving(Config {
        on_failure: crate::server::OnFailure::Restart,
        ..config()
    });
    server.on(E::Upgrade);
    server.failed(0);
    assert_eq!(server.wait(SECOND), [spawn(2, Role::Slot(0), 0)]);
}

#[test]
fn who_is_succeeded_stops_its_workers_as_in_a_roll_and_ends_with_0() {
    let mut server = Server::serving(config());
    server.on(E::Upgrade);
    let stops = [
        server.stopping(StopReason::Restart),
        A::Close(Role::Slot(0)),
        A::Close(Role::Slot(1)),
        server.stop(0, StopReason::Restart, 25 * SECOND),
        server.stop(1, StopReason::Restart, 25 * SECOND),
    ];
    assert_eq!(server.on(E::Succeeded), stops);
    assert_eq!(server.on(E::Upgrade), [REFUSED]);
    server.clean(0);
    assert_eq!(server.clean(1), [A::Exit(0)]);
    assert_eq!(server.on(E::SuccessorDied), []);
}

#[test]
fn when_the_successor_dies_the_rest_ends_at_once_with_1() {
    let mut server = Server::serving(config());
    assert_eq!(server.on(E::SuccessorDied), []);
    server.on(E::Upgrade);
    server.on(E::Succeeded);
    let kills = [A::Report(R::SuccessorDied), A::Kill(id(0)), A::Kill(id(1))];
    assert_eq!(server.on(E::SuccessorDied), kills);
    server.clean(0);
    assert_eq!(server.failed(1), [A::Exit(1)]);

    let mut server = Server::serving(Config {
        can_kill: false,
        ..config()
    });
    server.on(E::Upgrade);
    server.on(E::Succeeded);
    let ends = [A::Report(R::SuccessorDied), A::Exit(1)];
    assert_eq!(server.on(E::SuccessorDied), ends);
}

#[test]
fn a_stop_takes_the_successor_with_it_until_that_serves() {
    let mut server = Server::serving(config());
    server.on(E::Upgrade);
    assert_eq!(server.on(E::StopSignal(TERM))[0], A::AbandonUpgrade);
    assert_eq!(server.on(E::Succeeded), []);
    assert_eq!(server.on(E::Upgrade), [REFUSED]);

    let mut server = Server::serving(Config {
        drain_delay: SECOND,
        ..config()
    });
    server.on(E::Upgrade);
    assert!(server.on(E::StopSignal(TERM)).contains(&A::AbandonUpgrade));
    assert_eq!(server.on(E::Upgrade), [REFUSED]);

    let mut server = Server::serving(config());
    server.on(E::Upgrade);
    server.on(E::Succeeded);
    server.wait(SECOND);
    assert_eq!(server.on(E::StopSignal(TERM)), []);
}

#[test]
fn a_failure_that_stops_the_server_stops_the_successor_too() {
    let mut server = Server::serving(config());
    server.on(E::Upgrade);
    assert_eq!(server.failed(0)[0], A::AbandonUpgrade);
    server.clean(1);
}

#[test]
fn nobody_is_succeeded_by_one_that_was_not_asked_for() {
    let mut server = Server::serving(config());
    assert_eq!(server.on(E::Succeeded), []);
    server.on(E::Upgrade);
    server.on(E::UpgradeOver);
    assert_eq!(server.on(E::Succeeded), []);
}

#[test]
fn a_successor_that_dies_while_the_main_context_is_left_makes_it_1_unless_something_failed() {
    for (ending, code) in [(Ending::Clean, 1), (Ending::Failed, 1)] {
        let mut server = Server::serving(Config {
            workers: 1,
            has_main: true,
            ..config()
        });
        server.on(E::Upgrade);
        server.on(E::Succeeded);
        server.on(E::Ended(id(0), ending));
        assert_eq!(server.on(E::SuccessorDied), []);
        assert_eq!(server.on(E::MainLeft(Ending::Clean)), [A::Exit(code)]);
    }
}
