use super::super::event::{Event as E, *};
use super::super::harness::*;
use crate::server::OnFailure;

fn phases(server: &Server, numbers: std::ops::Range<u64>) -> Vec<&'static str> {
    numbers
        .map(|number| server.policy.phase_name(id(number)))
        .collect()
}

#[test]
fn a_roll_is_seen_until_the_last_old_worker_has_gone() {
    let mut server = Server::serving(config());
    assert_eq!(server.policy.rolling(), None);
    server.on(E::Reload);
    assert_eq!(server.policy.rolling(), Some((None, 2, 0)));
    assert_eq!(
        phases(&server, 0..4),
        ["ready", "ready", "starting", "killed"]
    );
    server.ready(2);
    assert_eq!(server.policy.rolling(), Some((None, 1, 1)));
    assert_eq!(phases(&server, 0..2), ["draining", "ready"]);
    server.ready(3);
    assert_eq!(server.policy.rolling(), Some((None, 0, 2)));
    server.wait(25 * SECOND);
    assert_eq!(phases(&server, 0..2), ["killed", "killed"]);
    server.clean(0);
    assert_eq!(server.policy.rolling(), Some((None, 0, 1)));
    server.clean(1);
    server.on(E::Restart(S1));
    assert_eq!(server.policy.rolling(), Some((Some(S1), 1, 0)));
}

#[test]
fn places_are_seen_with_what_they_wait_for() {
    let mut server = Server::serving(Config {
        extra_sync: vec![false],
        max_workers: 5,
        on_failure: OnFailure::Restart,
        ..config()
    });
    server.on(E::ScaleUp);
    assert_eq!(server.policy.wanted(), (3, 5));
    server.failed(1);
    server.wait(ms(30));
    let roles = [
        (S0, false, Some(ms(70))),
        (S1, false, None),
        (S2, false, None),
        (X0, false, None),
    ];
    assert_eq!(server.policy.roles(server.now), roles);

    let mut server = Server::serving(Config {
        max_workers: 0,
        on_failure: OnFailure::Ignore,
        ..config()
    });
    server.failed(0);
    assert_eq!(server.policy.wanted(), (2, 1));
    let roles = [(S0, true, None), (S1, false, None)];
    assert_eq!(server.policy.roles(server.now), roles);
}

#[test]
fn a_phase_has_a_name() {
    let told = |server: &Server| {
        let phase = server.policy.phase();
        (phase.name(), phase.is_going())
    };
    let config = Config {
        drain_delay: SECOND,
        ..config()
    };
    let (mut server, _) = Server::new(config);
    assert_eq!(told(&server), ("starting", false));
    server.ready(0);
    server.ready(1);
    assert_eq!(told(&server), ("serving", false));
    server.on(E::StopSignal(TERM));
    assert_eq!(told(&server), ("going", true));
    server.wait(SECOND);
    assert_eq!(told(&server), ("stopping", true));
    server.clean(0);
    server.clean(1);
    assert_eq!(told(&server), ("ended", true));
}
