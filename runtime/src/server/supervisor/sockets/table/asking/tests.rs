use super::super::fake::*;
use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn udp(table: &mut Table<Fake>, worker: u64, text: &str) -> Socket {
    table.bind_udp(WorkerId(worker), text, &[at(text)]).unwrap()
}

#[test]
fn what_is_not_meant_stays_open() {
    let mut table = table();
    for (text, address) in [("a:80", "127.0.0.1:80"), ("b:81", "127.0.0.1:81")] {
        listen(&mut table, 0, text, &[address]).unwrap();
    }
    let datagrams = table.bind_udp(WorkerId(0), "a:80", &[at("127.0.0.1:80")]);
    drop(datagrams);
    assert!(!table.unlisten(WorkerId(0), "c:80"));
    assert_eq!(table.names().count(), 3);
    assert!(table.unlisten(WorkerId(0), "a:80"));
    let names: Vec<_> = table.names().map(|name| name.to_string()).collect();
    assert_eq!(names, ["127.0.0.1:81"]);
}

#[test]
fn a_fixed_port_is_one_socket_however_often_it_is_asked_for_and_port_0_is_another_each_time() {
    let mut table = table();
    let first = listen(&mut table, 0, "a:80", &["127.0.0.1:80"]).unwrap();
    for now in [&[][..], &["127.0.0.2:80"]] {
        assert_eq!(listen(&mut table, 0, "a:80", now).unwrap().id, first.id);
    }

    let chosen = [(); 2].map(|()| listen(&mut table, 0, "b:0", &["127.0.0.1:0"]).unwrap());
    assert_ne!(chosen[0].name, chosen[1].name);
    // A successor that can't resolve the name gets the same ones.
    table.begin(WorkerId(3), A);
    let again = [(); 2].map(|()| listen(&mut table, 3, "b:0", &[]).unwrap());
    assert_eq!([again[0].id, again[1].id], [chosen[0].id, chosen[1].id]);
}

#[test]
fn another_port_is_tried_while_the_one_that_was_chosen_is_in_use_elsewhere() {
    let both = ["[::1]:0", "127.0.0.1:0"];
    for (kind, addresses, tries) in [
        (io::ErrorKind::AddrInUse, &both[..], 2 * PORTS),
        (io::ErrorKind::PermissionDenied, &both, 2),
        (io::ErrorKind::AddrInUse, &["127.0.0.1:80"], 1),
        (io::ErrorKind::AddrInUse, &["[::1]:80", "127.0.0.1:80"], 2),
    ] {
        let mut table = table();
        table.system.failing = Some((at("127.0.0.1:0").ip(), kind));
        let error = listen(&mut table, 0, "localhost", addresses).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(table.system.tries, tries, "{kind} {addresses:?}");
        assert_eq!(table.system.open_sockets().len(), 0);
    }
}

#[test]
fn what_another_worker_of_the_slot_has_is_not_let_go() {
    let mut table = table();
    listen(&mut table, 0, "a:80", &["127.0.0.1:80"]).unwrap();
    table.begin(WorkerId(3), A);
    table.system.failing = Some((at("127.0.0.2:80").ip(), io::ErrorKind::AddrInUse));
    let both = ["127.0.0.1:80", "127.0.0.2:80"];
    listen(&mut table, 3, "both:80", &both).unwrap_err();
    assert_eq!(table.system.open_sockets().len(), 1);
    assert!(table.unlisten(WorkerId(0), "a:80"));
    assert_eq!(table.system.open_sockets().len(), 0);
}

#[test]
fn only_what_is_in_the_way_changes_how_an_address_is_bound() {
    let mut mixed = table();
    udp(&mut mixed, 0, "0.0.0.0:80");
    let beside_datagrams = listen(&mut mixed, 0, "[::]:80", &["[::]:80"]).unwrap();
    assert!(!beside_datagrams.only_v6);

    let alone = |first: &str, second: &str| {
        let mut table = table();
        let first = listen(&mut table, 0, first, &[first]).unwrap();
        let second = listen(&mut table, 0, second, &[second]).unwrap();
        assert!(!first.shared.get() && !second.shared.get());
        assert!(!second.only_v6);
    };
    alone("[::1]:80", "[::2]:80");
    alone("[::1]:80", "127.0.0.1:80");
    alone("127.0.0.1:80", "127.0.0.2:80");
    alone("0.0.0.0:80", "127.0.0.1:80");

    let mut table = table();
    let first = listen(&mut table, 0, "[::]:80", &["[::]:80"]).unwrap();
    table.begin(WorkerId(3), A);
    listen(&mut table, 3, "[::]:80", &["[::]:80"]).unwrap();
    assert!(!first.shared.get(), "a successor has the same socket");
}

#[test]
fn an_unspecified_address_is_in_the_way_of_its_family() {
    for (one, other, expected) in [
        ("0.0.0.0:80", "127.0.0.1:80", true),
        ("0.0.0.0:80", "[::1]:80", false),
        ("[::]:80", "[::1]:80", true),
        ("[::]:80", "127.0.0.1:80", true),
        ("[::]:80", "0.0.0.0:80", true),
        ("127.0.0.1:80", "127.0.0.2:80", false),
        ("127.0.0.1:80", "[::1]:80", false),
        ("[::1]:80", "[::2]:80", false),
    ] {
        assert_eq!(is_in_the_way(at(one), at(other)), expected, "{one} {other}");
        assert_eq!(is_in_the_way(at(other), at(one)), expected, "{other} {one}");
    }
}
