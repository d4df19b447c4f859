use super::super::event::{Event as E, *};
use super::super::harness::*;
use super::*;
use crate::server::OnFailure;

fn rolled(replaced: usize, of: usize) -> Option<Rolled> {
    Some(Rolled { replaced, of })
}

#[test]
fn a_roll_is_told_of_worker_by_worker() {
    let mut server = Server::serving(Config {
        extra_sync: vec![false],
        ..config()
    });
    let serving = Standing {
        phase: Phase::Serving,
        ready: 2,
        wanted: 2,
        roll: None,
        reloading: false,
        until: None,
    };
    assert_eq!(server.policy.standing(), serving);

    server.on(E::Reload);
    let rolling = Standing {
        roll: rolled(0, 2),
        reloading: true,
        until: Some(server.now + 60 * SECOND),
        ..serving
    };
    assert_eq!(server.policy.standing(), rolling);
    server.ready(3);
    let roll = rolled(1, 2);
    assert_eq!(server.policy.standing(), Standing { roll, ..rolling });
    server.ready(4);
    let roll = rolled(2, 2);
    let until = Some(server.now + 25 * SECOND);
    let draining = Standing {
        roll,
        until,
        ..rolling
    };
    assert_eq!(server.policy.standing(), draining);
    server.clean(1);
    server.clean(2);
    // The extra goes before it comes.
    assert_eq!(server.policy.standing(), draining);
    server.clean(0);
    server.ready(5);
    assert_eq!(server.policy.standing(), serving);

    server.on(E::Restart(S1));
    let roll = rolled(0, 1);
    let until = rolling.until;
    let one = Standing {
        roll,
        until,
        ..serving
    };
    assert_eq!(server.policy.standing(), one);
    server.on(E::Reload);
    let reloading = true;
    assert_eq!(server.policy.standing(), Standing { reloading, ..one });
}

#[test]
fn a_stop_is_told_of_by_its_reason_and_its_end() {
    let reason = StopReason::Signal(TERM);
    let (mut server, _) = Server::new(config());
    server.on(E::Reload);
    let starting = Standing {
        phase: Phase::Starting,
        ready: 0,
        wanted: 2,
        roll: None,
        reloading: true,
        until: Some(server.now + 60 * SECOND),
    };
    assert_eq!(server.policy.standing(), starting);
    server.on(E::StopSignal(TERM));
    let stopping = Standing {
        phase: Phase::Stopping(reason),
        reloading: false,
        until: Some(server.now + 26 * SECOND),
        ..starting
    };
    assert_eq!(server.policy.standing(), stopping);

    server.wait(SECOND);
    server.on(E::StopSignal(INT));
    let forced = Standing {
        phase: Phase::Stopping(StopReason::Signal(INT)),
        until: Some(server.now + SECOND),
        ..stopping
    };
    assert_eq!(server.policy.standing(), forced);
    assert_eq!(server.policy.hard_end(), forced.until);
    assert_eq!(server.policy.exit_code(), 130);
    server.clean(0);
    server.clean(1);
    assert_eq!(server.policy.standing().phase, Phase::Ended);
    assert_eq!(server.policy.standing().until, None);
}

/// Going after the first worker of a roll is ready, or before; the second one's image isn't the server's.
fn going(ready: bool) -> Server {
    let mut server = Server::serving(Config {
        workers: 1,
        drain_delay: 5 * SECOND,
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.on(E::Reload);
    if ready {
        server.ready(1);
    }
    server.on(E::StopSignal(TERM));
    server
}

fn used(server: &Server) -> [bool; 3] {
    [0, 1, 2].map(|image| server.policy.uses(Image(image)))
}

#[test]
fn an_image_is_kept_for_those_that_run_and_those_to_come() {
    let mut server = going(true);
    assert_eq!(used(&server), [true, true, false]);
    server.clean(0);
    assert_eq!(used(&server), [true, true, false], "of slots to come");
    server.failed(1);
    assert_eq!(used(&server), [true, true, false], "of the slot");

    let mut server = going(false);
    assert_eq!(used(&server), [true, true, false], "of one that leaves");
    server.clean(1);
    assert_eq!(used(&server), [true, false, false]);

    let mut server = Server::serving(Config {
        workers: 1,
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.on(E::Ending(id(0), Ending::Failed));
    server.wait(ms(100));
    server.ready(1);
    assert_eq!(deeds(server.on(E::Reload)), []);
    assert_eq!(used(&server), [true, true, false], "of the roll");
    for (old, new) in [(0, 2), (1, 3)] {
        server.clean(old);
        server.ready(new);
    }
    assert_eq!(used(&server), [false, true, false]);
}
