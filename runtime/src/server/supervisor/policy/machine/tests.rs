use std::time::Duration;

use super::super::event::{Action as A, Event as E, Report as R, *};
use super::super::harness::*;

#[test]
fn entering_main_entered_spawns_extras_then_workers() {
    let (mut server, actions) = Server::new(Config {
        has_main: true,
        extra_sync: vec![false],
        ..config()
    });
    assert_eq!(actions, [A::EnterMain]);
    assert_eq!(server.policy.next_deadline(), None);
    assert_eq!(server.on(E::MainEntered), [spawn(0, X0, 0)]);
    assert_eq!(
        server.ready(0),
        [A::CloseUnasked(id(0)), spawn(1, S0, 0), spawn(2, S1, 0)]
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
    let (mut server, actions) = Server::new(Config {
        workers: 1,
        extra_sync: vec![true, false],
        ..config()
    });
    assert_eq!(actions, [spawn(0, X0, 0), spawn(1, X1, 0)]);
    assert_eq!(server.ready(1), [A::CloseUnasked(id(1)), spawn(2, S0, 0)]);
    assert_eq!(
        server.ready(2),
        [A::CloseUnasked(id(2)), A::Report(R::AllReady)]
    );

    let (_, actions) = Server::new(Config {
        workers: 1,
        extra_sync: vec![true],
        ..config()
    });
    assert_eq!(actions, [spawn(0, X0, 0), spawn(1, S0, 0)]);
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
            spawn(1, S1, 0),
        ]
    );
    assert_eq!(
        server.ready(1),
        [
            A::CloseUnasked(id(1)),
            A::Report(R::RollStarted {
                slots: 2,
                only: None,
                image: Image(1)
            }),
            spawn(2, S0, 1),
        ]
    );
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
