use super::*;

use super::super::fake::{A, B, Fake, Socket, orders, table};
use crate::server::supervisor::sockets::system::How;

fn worker(number: u64) -> WorkerId {
    WorkerId(number)
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// With these passed, of their names and addresses.
fn passed(sockets: &[(&'static str, Kind, &str)]) -> Table<Fake> {
    let named = |(called, kind, address): &(&'static str, Kind, &str)| {
        (*called, Name::Inet(*kind, at(address)))
    };
    of_names(&sockets.iter().map(named).collect::<Vec<_>>())
}

fn of_names(sockets: &[(&str, Name)]) -> Table<Fake> {
    let mut table = table();
    let how = How {
        shared: true,
        only_v6: false,
        listening: true,
        mode: 0,
    };
    let mut open = |(called, name): &(&str, Name)| {
        let socket = table.system.open(name, how).ok().unwrap().socket;
        Inherited {
            called: (*called).to_owned(),
            name: name.clone(),
            only_v6: false,
            identity: socket.id,
            socket,
            taken: false,
        }
    };
    let sockets = sockets.iter().map(&mut open).collect();
    table.inherit(sockets);
    table
}

fn listen(table: &mut Table<Fake>, number: u64, address: &str) -> io::Result<Socket> {
    table.listen(worker(number), address, &[at(address)], true)
}

fn named(table: &mut Table<Fake>, number: u64, called: &str) -> io::Result<Socket> {
    table.named(worker(number), Passed::Tcp, called)
}

fn unix(path: &str) -> Name {
    Name::unix(path.as_ref())
}

const HTTP: (&str, Kind, &str) = ("http", Kind::Tcp, "127.0.0.1:80");

#[test]
fn who_asks_for_its_address_or_its_name_gets_a_socket_that_was_passed() {
    let mut table = passed(&[HTTP]);
    let first = listen(&mut table, 0, "127.0.0.1:80").unwrap();
    let second = named(&mut table, 1, "http").unwrap();
    assert_eq!((first.id, second.id), (0, 0), "all share it");
    assert_eq!(listen(&mut table, 0, "127.0.0.1:81").unwrap().id, 1);
    table.ready(worker(0));
    table.ready(worker(1));
    table.close_unasked();
    table.ended(worker(0));
    table.begin(worker(3), A);
    assert_eq!(named(&mut table, 3, "http").unwrap().id, 0, "again");
    assert!(table.unlisten(worker(3), "http"));
}

#[test]
fn of_several_on_one_address_each_slot_has_its_own() {
    let mut table = passed(&[HTTP, HTTP]);
    let mut ids = |number| named(&mut table, number, "http").unwrap().id;
    assert_eq!([ids(0), ids(1), ids(2), ids(0)], [0, 1, 0, 0]);
    table.ended(worker(1));
    table.begin(worker(3), B);
    let again = named(&mut table, 3, "http").unwrap();
    assert_eq!(again.id, 1, "a slot keeps its own");
}

#[test]
fn several_addresses_of_one_name_are_all_held() {
    let mut table = passed(&[HTTP, ("http", Kind::Tcp, "127.0.0.1:443")]);
    let first = named(&mut table, 0, "http").unwrap();
    assert_eq!(first.id, 0);
    table.accepts(worker(0), 1, first.id);
    let orders = table.take_orders();
    assert_eq!(orders.len(), 1, "its accept loop gets the other");
    table.close_unasked();
    assert_eq!(table.inherited.len(), 2);
}

#[test]
fn a_name_that_is_not_there_is_told_those_that_are() {
    let mut table = passed(&[
        HTTP,
        ("admin", Kind::Tcp, "[::]:81"),
        ("dns", Kind::Udp, "[::]:53"),
    ]);
    let error = named(&mut table, 0, "https").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "cannot listen on the socket named `https`: the TCP sockets that systemd has passed are `admin`, `http`"
    );
    let error = named(&mut passed(&[]), 0, "http").unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("systemd has passed no TCP sockets")
    );
}

#[test]
fn what_nobody_has_asked_for_is_closed() {
    let mut table = passed(&[
        HTTP,
        ("dns", Kind::Udp, "127.0.0.1:53"),
        ("admin", Kind::Tcp, "127.0.0.1:81"),
    ]);
    listen(&mut table, 0, "127.0.0.1:80").unwrap();
    let dns = table.bind_udp(worker(0), "127.0.0.1:53", &[at("127.0.0.1:53")]);
    assert_eq!(dns.unwrap().id, 1);
    assert_eq!(table.system.open_sockets().len(), 3);
    table.close_unasked();
    assert_eq!(table.system.open_sockets().len(), 2);
    assert!(named(&mut table, 1, "admin").is_err());
}

/// The service manager's own would be shut too.
#[test]
fn a_socket_that_was_passed_is_never_parked() {
    let mut table = passed(&[HTTP, HTTP]);
    for number in [0, 1] {
        named(&mut table, number, "http").unwrap();
        table.ready(worker(number));
    }
    table.ended(worker(1));
    table.park(B);
    assert!(
        table
            .system
            .open_sockets()
            .iter()
            .all(|socket| socket.listening.get())
    );
}

#[test]
fn a_shared_socket_is_not_lent_to_who_has_it_already() {
    for (sockets, lent) in [(vec![HTTP], 0), (vec![HTTP, HTTP], 1)] {
        let mut table = passed(&sockets);
        for number in [0, 1] {
            let socket = named(&mut table, number, "http").unwrap();
            table.accepts(worker(number), 1, socket.id);
            table.ready(worker(number));
        }
        table.take_orders();
        table.ended(worker(1));
        assert_eq!(table.take_orders().len(), lent);
    }
}

/// The service manager's own still gets its share of the connections.
#[test]
fn the_socket_of_a_slot_that_is_no_more_is_lent_to_a_sibling() {
    let mut table = passed(&[HTTP, HTTP]);
    for number in [0, 1] {
        let socket = named(&mut table, number, "http").unwrap();
        table.accepts(worker(number), 1, socket.id);
        table.ready(worker(number));
    }
    table.close(B);
    assert_eq!(orders(&mut table), ["to 0: 1"]);
    table.ended(worker(1));
    table.begin(worker(3), B);
    let again = named(&mut table, 3, "http").unwrap();
    assert_eq!(again.id, 1);
    table.accepts(worker(3), 1, again.id);
    assert_eq!(orders(&mut table), ["from 0"]);
}

/// `ListenStream=80` binds `[::]:80`.
#[test]
fn a_socket_of_both_families_is_that_of_any_ipv4_address() {
    let mut table = passed(&[("http", Kind::Tcp, "[::]:80")]);
    assert_eq!(listen(&mut table, 0, "0.0.0.0:80").unwrap().id, 0);
    let mut table = passed(&[
        ("http", Kind::Tcp, "[::]:80"),
        ("v4", Kind::Tcp, "0.0.0.0:80"),
    ]);
    assert_eq!(
        listen(&mut table, 0, "0.0.0.0:80").unwrap().id,
        1,
        "its own"
    );
}

#[test]
fn udp_and_unix_sockets_have_names_too_and_a_unit_may_have_one_of_each() {
    const NAME: &str = "dns.socket";
    let mut table = of_names(&[
        (NAME, Name::Inet(Kind::Tcp, at("[::]:53"))),
        (NAME, Name::Inet(Kind::Udp, at("[::]:53"))),
        (NAME, unix("/run/dns")),
        ("here", unix("@here")),
    ]);
    for number in [0, 1] {
        let mut id = |kind, name: &str| table.named(worker(number), kind, name).unwrap().id;
        assert_eq!(id(Passed::Tcp, NAME), 0);
        assert_eq!(id(Passed::Udp, NAME), 1);
        assert_eq!(id(Passed::Unix, NAME), 2);
        assert_eq!(id(Passed::Unix, "here"), 3);
    }
    let udp = table.bind_udp(worker(2), "[::]:53", &[at("[::]:53")]);
    assert_eq!(udp.unwrap().id, 1);
    for (path, id) in [("/run/dns", 2), ("@here", 3)] {
        let listener = table.listen_unix(worker(2), path.as_ref(), 0o600);
        assert_eq!(listener.unwrap().id, id);
    }
    assert!(table.names.values().all(|shared| shared.file.is_none()));
    table.close_unasked();
    assert_eq!(table.inherited.len(), 4);
    assert!(table.unlisten(worker(0), "here"));
    assert!(table.unlisten(worker(0), NAME));
    assert!(!table.unlisten(worker(0), "/run/dns"), "it had that name");
    for kind in [Passed::Udp, Passed::Unix] {
        let error = table
            .named(worker(0), kind, "http")
            .unwrap_err()
            .to_string();
        let names = "`dns.socket`";
        assert!(
            error.contains(&format!("the {kind} sockets that")),
            "{error}"
        );
        assert!(error.contains(names), "{error}");
    }
}

#[test]
fn of_several_udp_sockets_on_one_address_each_slot_has_its_own() {
    const DNS: (&str, Kind, &str) = ("dns", Kind::Udp, "127.0.0.1:53");
    let mut table = passed(&[DNS, DNS]);
    let mut ids = |number| table.named(worker(number), Passed::Udp, "dns").unwrap().id;
    assert_eq!([ids(0), ids(1), ids(2), ids(1)], [0, 1, 0, 1]);
    table.ready(worker(0));
    table.park(B);
    assert_eq!(table.system.open_sockets().len(), 2, "none is shut");
}

/// A listener is one socket.
#[test]
fn a_name_of_several_udp_or_unix_sockets_is_refused_with_their_addresses() {
    let mut table = of_names(&[
        ("it", unix("/run/a")),
        ("it", unix("/run/b")),
        ("it", Name::Inet(Kind::Udp, at("127.0.0.1:1"))),
        ("it", Name::Inet(Kind::Udp, at("127.0.0.1:2"))),
    ]);
    for (kind, names) in [
        (Passed::Unix, "/run/a, /run/b"),
        (Passed::Udp, "127.0.0.1:1 (udp), 127.0.0.1:2 (udp)"),
    ] {
        let error = table.named(worker(0), kind, "it").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on the socket named `it`: it is the name of several: {names}; ask for each by its address"
            )
        );
    }
}

#[test]
fn a_socket_that_was_passed_is_closed_with_its_last_slot() {
    let mut table = passed(&[HTTP]);
    let mut socket = |number| listen(&mut table, number, "127.0.0.1:80").unwrap().id;
    assert_eq!([socket(0), socket(1)], [0, 0]);
    table.close(A);
    assert_eq!(table.names().count(), 1);
    table.close(B);
    assert_eq!(table.names().count(), 0);
}

#[test]
fn what_was_passed_by_a_name_is_closed_by_it_and_nothing_else_is() {
    let mut table = of_names(&[("one", unix("/one")), ("two", unix("/two"))]);
    for called in ["one", "two"] {
        table.named(worker(0), Passed::Unix, called).unwrap();
    }
    assert!(table.unlisten(worker(0), "one"));
    let names: Vec<_> = table.names().map(|name| name.to_string()).collect();
    assert_eq!(names, ["/two"]);
}

#[test]
fn any_address_is_bound_instead_of_any_of_ipv4_only() {
    let table = passed(&[
        ("http", Kind::Tcp, "[::]:80"),
        ("dns", Kind::Udp, "[::]:53"),
        ("both", Kind::Tcp, "[::]:81"),
        ("both", Kind::Tcp, "0.0.0.0:81"),
    ]);
    for (kind, asked, expected) in [
        (Kind::Tcp, "0.0.0.0:80", "[::]:80"),
        (Kind::Tcp, "127.0.0.1:80", "127.0.0.1:80"),
        (Kind::Tcp, "[::1]:80", "[::1]:80"),
        (Kind::Tcp, "[::]:80", "[::]:80"),
        (Kind::Udp, "0.0.0.0:80", "0.0.0.0:80"),
        (Kind::Udp, "0.0.0.0:53", "[::]:53"),
        (Kind::Tcp, "0.0.0.0:81", "0.0.0.0:81"),
        (Kind::Tcp, "0.0.0.0:82", "0.0.0.0:82"),
    ] {
        assert_eq!(
            table.bound_instead(kind, at(asked)),
            at(expected),
            "{asked}"
        );
    }
}
