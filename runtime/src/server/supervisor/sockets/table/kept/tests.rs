use super::*;

use super::super::fake::{A, B, C, Fake, Socket, kept_of, listen, orders, serve, table};
use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::sockets::name::Kind;
use crate::server::supervisor::sockets::system::How;

const HTTP: &str = "127.0.0.1:80";

fn http() -> Name {
    Name::Inet(Kind::Tcp, HTTP.parse().unwrap())
}

/// With these of an earlier run.
fn after(kept: &[(Role, Name)]) -> Table<Fake> {
    let mut table = table();
    let kept = kept.iter();
    let kept = kept.map(|(role, name)| kept_of(&mut table.system, *role, name));
    let kept = kept.collect();
    table.take_back(kept);
    table
}

fn worker(number: u64) -> WorkerId {
    WorkerId(number)
}

fn offered(table: &Table<Fake>) -> Vec<u64> {
    table.offered().into_keys().collect()
}

#[test]
fn each_slot_has_its_own_back_and_a_new_one_has_a_new_one() {
    let mut table = after(&[(A, http()), (B, http())]);
    let mut id = |number| listen(&mut table, number, HTTP, &[HTTP]).unwrap().id;
    assert_eq!([id(2), id(1), id(0)], [2, 1, 0]);
    table.close_unasked();
    assert_eq!(offered(&table), [0, 1, 2]);
    let called: Vec<String> = table.offered().values().map(Offered::called).collect();
    // `127.0.0.1:80`
    let address = "3132372e302e302e313a3830";
    for (slot, called) in called.iter().enumerate() {
        assert_eq!(*called, format!("aioxide-{slot}-tcp-{address}"));
    }
}

/// What waited while there was no server is accepted before the slot's own worker is there.
#[test]
fn who_serves_first_accepts_for_the_others() {
    let mut table = after(&[(A, http()), (B, http()), (Role::Slot(7), http())]);
    serve(&mut table, 0);
    assert_eq!(orders(&mut table), ["to 0: 1", "to 0: 2"]);
    serve(&mut table, 1);
    assert_eq!(orders(&mut table), ["from 0"]);
    table.close_unasked();
    assert_eq!(orders(&mut table), ["from 0"], "nobody is to have it");
    assert_eq!(offered(&table), [0, 1]);
}

#[test]
fn what_nobody_has_asked_for_is_closed_when_all_are_ready() {
    let other = Name::Inet(Kind::Tcp, "127.0.0.1:81".parse().unwrap());
    let unix = Name::Unix("/run/it".into());
    let mut table = after(&[(A, http()), (C, other), (A, unix), (Role::Extra(0), http())]);
    assert_eq!(offered(&table), [0, 1, 2], "an address is of one group");
    serve(&mut table, 0);
    assert_eq!(offered(&table), [0, 1], "its own worker is ready without");
    table.close_unasked();
    assert_eq!(offered(&table), [0]);
    assert_eq!(table.system.open_sockets().len(), 1);
}

#[test]
fn a_unix_socket_is_one_for_all_and_keeps_its_file() {
    let path = std::path::Path::new("/run/it");
    let mut table = after(&[(A, Name::Unix(path.into()))]);
    let mut id = |number| table.listen_unix(worker(number), path, 0o600).unwrap().id;
    assert_eq!([id(1), id(0)], [0, 0]);
    table.close_unasked();
    assert_eq!(offered(&table), [0], "it is kept once");
    table.system.removed.push(path.into());
    table.look_after_files(true);
    assert_eq!(offered(&table), [0_u64; 0], "nobody can connect to it");
}

/// Parked, or of a name whose further addresses nobody accepts from.
#[test]
fn one_that_does_not_listen_does_when_it_is_asked_for() {
    let mut table = after(&[(A, http())]);
    let socket: Socket = table.names[&http()].slots[&A].socket.clone();
    socket.listening.set(false);
    table
        .names
        .get_mut(&http())
        .unwrap()
        .slots
        .get_mut(&A)
        .unwrap()
        .listening = false;
    assert_eq!(listen(&mut table, 0, HTTP, &[HTTP]).unwrap().id, 0);
    assert!(socket.listening.get());
}

#[test]
fn what_systemd_has_anyway_is_not_offered() {
    let mut table = after(&[]);
    let how = How {
        shared: true,
        only_v6: false,
        listening: true,
        mode: 0,
    };
    let socket = table.system.open(&http(), how).ok().unwrap().socket;
    table.inherit(vec![super::super::Inherited {
        called: "http".to_owned(),
        name: http(),
        only_v6: false,
        identity: socket.id,
        socket,
        taken: false,
    }]);
    serve(&mut table, 0);
    assert_eq!(offered(&table), [0_u64; 0]);
}

#[test]
fn what_it_is_called_tells_whose_it_is_and_where() {
    use crate::server::supervisor::sockets::name::kept_for;

    let names = [
        http(),
        Name::Inet(Kind::Udp, "[::1]:53".parse().unwrap()),
        Name::Unix(format!("/{}", "x".repeat(106)).into()),
        Name::Abstract(vec![0xff; 107]),
    ];
    for role in [A, Role::Slot(65_535), Role::Extra(0), Role::Extra(65_535)] {
        for name in &names {
            let called = kept_as(role, name);
            assert_eq!(kept_for(&called), Some((role, name.clone())));
            assert!(called.len() <= 255, "systemd takes no more: {called}");
        }
    }
    for other in [
        "http",
        "stored",
        "aioxide-",
        "aioxide-x-tcp-00",
        "aioxide-1",
        "aioxide-1-tcp-6",
        "aioxide-1-tcp-6161",
        "aioxide-1-tcp-é",
        "aioxide-1-sctp-00",
    ] {
        assert_eq!(kept_for(other), None, "{other}");
    }
}

#[test]
fn what_is_one_slots_only_is_shared_once_it_is_kept_for_two() {
    let shared = |kept: &[Role], shares: bool| {
        let mut table = table();
        let kept = kept.iter().map(|role| {
            let mut kept = kept_of(&mut table.system, *role, &http());
            kept.shared = shares || *role != B;
            kept.socket.shared.set(kept.shared);
            kept
        });
        let kept: Vec<_> = kept.collect();
        let sockets: Vec<Socket> = kept.iter().map(|kept| kept.socket.clone()).collect();
        table.take_back(kept);
        let shared = sockets.iter().map(|socket| socket.shared.get());
        shared.collect::<Vec<_>>()
    };
    assert_eq!(shared(&[B], false), [false]);
    assert_eq!(shared(&[A, B], false), [true, true]);
    assert_eq!(shared(&[A, B], true), [true, true]);
}
