use super::fake::*;

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::server::addresses::Addresses;
use crate::server::line::Role;
use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::sockets::name::Kind;

const LOCALHOST: [&str; 2] = ["[::1]:80", "127.0.0.1:80"];

#[test]
fn the_socket_of_a_vacant_slot_is_lent_until_its_successor_accepts() {
    let mut table = table();
    let sockets = [0, 1, 2].map(|worker| serve(&mut table, worker));
    assert_eq!(orders(&mut table), Vec::<String>::new());

    table.ended(WorkerId(0));
    assert_eq!(orders(&mut table), ["to 1: 0"]);
    table.park(A);
    assert!(sockets[0].listening.get(), "a lent socket isn't parked");

    table.begin(WorkerId(3), A);
    let again = listen(&mut table, 3, "127.0.0.1:80", &["127.0.0.1:80"]).unwrap();
    assert_eq!(again.id, 0);
    assert_eq!(
        orders(&mut table),
        Vec::<String>::new(),
        "it has asked, but doesn't accept yet"
    );
    table.accepts(WorkerId(3), 0, again.id);
    assert_eq!(orders(&mut table), ["from 1"]);
}

#[test]
fn a_successor_with_its_own_accept_loop_has_its_socket_back_when_it_is_ready() {
    let mut table = table();
    for worker in [0, 1] {
        serve(&mut table, worker);
    }
    table.leaving(WorkerId(0));
    assert_eq!(orders(&mut table), ["to 1: 0"]);
    table.begin(WorkerId(3), A);
    listen(&mut table, 3, "127.0.0.1:80", &["127.0.0.1:80"]).unwrap();
    table.ready(WorkerId(3));
    assert_eq!(orders(&mut table), ["from 1"]);
}

#[test]
fn a_loan_moves_on_when_its_borrower_leaves() {
    let mut table = table();
    for worker in [0, 1, 2] {
        serve(&mut table, worker);
    }
    table.ended(WorkerId(0));
    assert_eq!(orders(&mut table), ["to 1: 0"]);
    table.leaving(WorkerId(1));
    assert_eq!(orders(&mut table), ["from 1", "to 2: 0", "to 2: 1"]);
    table.accepts_no_more(WorkerId(2), 0);
    assert_eq!(orders(&mut table), ["from 2", "from 2"]);
}

#[test]
fn loans_are_spread() {
    let mut table = table();
    for worker in [0, 1, 2] {
        serve(&mut table, worker);
    }
    table.begin(WorkerId(3), Role::Slot(3));
    serve(&mut table, 3);
    table.ended(WorkerId(0));
    table.ended(WorkerId(1));
    assert_eq!(
        orders(&mut table),
        ["to 1: 0", "from 1", "to 2: 0", "to 3: 1"]
    );
}

#[test]
fn closing_a_slot_takes_its_loan_back() {
    let mut table = table();
    let lent = serve(&mut table, 0);
    serve(&mut table, 1);
    table.ended(WorkerId(0));
    table.take_orders();
    table.close(A);
    assert_eq!(orders(&mut table), ["from 1"]);
    assert_eq!(std::rc::Rc::strong_count(&lent), 1);
}

/// One that listens with an accept loop of its own can't take loans.
#[test]
fn what_nobody_can_borrow_is_parked() {
    let mut table = table();
    let sockets =
        [0, 1].map(|worker| listen(&mut table, worker, "a:80", &["127.0.0.1:80"]).unwrap());
    table.ready(WorkerId(0));
    table.ready(WorkerId(1));
    table.ended(WorkerId(0));
    assert!(sockets[0].listening.get());
    table.park(A);
    assert!(!sockets[0].listening.get());
    assert_eq!(orders(&mut table), Vec::<String>::new());
}

/// Its start was long enough for its slot to be called vacant. That is over once it is ready: what waits when it
/// crashes is its successor's.
#[test]
fn a_slow_starter_that_is_ready_is_vacant_no_more() {
    let mut table = table();
    let sockets =
        [0, 1].map(|worker| listen(&mut table, worker, "a:80", &["127.0.0.1:80"]).unwrap());
    table.ready(WorkerId(1));
    table.park(A);
    table.ready(WorkerId(0));
    table.ended(WorkerId(0));
    table.ready(WorkerId(1));
    assert!(sockets[0].listening.get());
}

#[test]
fn every_address_of_a_name_is_bound_and_listens_once_somebody_accepts() {
    let mut table = table();
    let first = listen(&mut table, 0, "localhost:80", &LOCALHOST).unwrap();
    let further = table.system.open_sockets()[1].clone();
    assert_eq!(first.name.to_string(), "[::1]:80");
    assert_eq!(further.name.to_string(), "127.0.0.1:80");
    assert!(first.listening.get() && !further.listening.get());
    assert_eq!(table.names().count(), 1);

    table.accepts(WorkerId(0), 7, first.id);
    assert_eq!(orders(&mut table), ["to 0: 1"]);
    assert!(further.listening.get());
    assert_eq!(table.names().count(), 2);

    // Its sibling's are lent as well.
    let second = listen(&mut table, 1, "localhost:80", &[]).unwrap();
    table.accepts(WorkerId(1), 0, second.id);
    assert_eq!(orders(&mut table), ["to 1: 3"]);
    table.ended(WorkerId(0));
    assert_eq!(orders(&mut table), ["to 1: 1", "to 1: 0"]);
    drop((first, further));
    assert!(table.unlisten(WorkerId(1), "localhost:80"));
    table.close(A);
    assert_eq!(
        table.system.open_sockets().len(),
        1,
        "only `second` is left"
    );
}

/// It would keep a client waiting that connects there.
#[test]
fn a_further_address_that_nobody_accepts_from_does_not_listen() {
    let mut table = table();
    listen(&mut table, 0, "localhost:80", &LOCALHOST).unwrap();
    table.ready(WorkerId(0));
    table.ended(WorkerId(0));
    table.park(A);
    let listening = |socket: &Socket| socket.listening.get();
    let open = table.system.open_sockets();
    assert_eq!(
        open.iter().map(listening).collect::<Vec<_>>(),
        [true, false]
    );
}

#[test]
fn an_address_that_is_taken_is_an_error_and_one_that_does_not_exist_is_left_out() {
    let mut table = table();
    let taken = listen(&mut table, 0, "a:80", &["127.0.0.1:80"]).unwrap();
    table.begin(WorkerId(9), Role::Extra(0));
    let error = listen(&mut table, 9, "localhost:80", &LOCALHOST).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(
        error.to_string(),
        "cannot listen on localhost:80: 127.0.0.1:80: another part of this server listens there"
    );
    assert_eq!(table.system.open_sockets().len(), 1, "{taken:?}");

    table.system.unavailable = vec!["[::1]:81".parse().unwrap()];
    let only = listen(&mut table, 0, "b:81", &["[::1]:81", "127.0.0.1:81"]).unwrap();
    assert_eq!(only.name.to_string(), "127.0.0.1:81");
    let error = listen(&mut table, 0, "c:81", &["[::1]:81"]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    let error = listen(&mut table, 0, "d:81", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot listen on d:81: it has no address"
    );
}

#[test]
fn port_0_is_the_same_port_on_every_address() {
    let mut table = table();
    let addresses = ["[::1]:0", "127.0.0.1:0"];
    let taken = listen(&mut table, 0, "x:40001", &["127.0.0.1:40001"]).unwrap();
    let ports = |table: &mut _, worker| {
        let socket = listen(table, worker, "localhost:0", &addresses).unwrap();
        socket.name.inet().unwrap().1.port()
    };
    let first = ports(&mut table, 0);
    assert_ne!(first, 40001, "{taken:?}");
    assert_eq!(ports(&mut table, 1), first);
    let both = table.system.open_sockets();
    let both = both
        .iter()
        .filter(|socket| socket.name.inet().unwrap().1.port() == first);
    assert_eq!(both.count(), 4);
}

#[test]
fn an_address_is_shared_when_a_second_slot_asks_for_it() {
    let mut table = table();
    let first = listen(&mut table, 0, "a:80", &["127.0.0.1:80"]).unwrap();
    table.begin(WorkerId(3), A);
    let same = listen(&mut table, 3, "a:80", &[]).unwrap();
    assert_eq!(same.id, first.id);
    assert!(!first.shared.get(), "a successor has the same socket");
    let second = listen(&mut table, 1, "a:80", &[]).unwrap();
    assert!(first.shared.get() && second.shared.get());
}

#[test]
fn ipv6_stands_beside_ipv4() {
    let both = |one: &str, two: &str| {
        let mut table = table();
        let [one, two] = [one, two].map(|text| {
            let sockets = [0, 1].map(|worker| listen(&mut table, worker, text, &[text]).unwrap());
            assert_eq!(sockets[0].only_v6, sockets[1].only_v6);
            sockets[0].only_v6
        });
        (one, two)
    };
    assert_eq!(both("0.0.0.0:80", "[::]:80"), (false, true));
    assert_eq!(both("0.0.0.0:80", "[::]:81"), (false, false));
    // It can't be changed when it is bound. The kernel gives IPv4 to the socket that is nothing else.
    assert_eq!(both("[::]:80", "0.0.0.0:80"), (false, false));

    let mut table = table();
    let first = listen(&mut table, 0, "both", &["[::]:80", "0.0.0.0:80"]).unwrap();
    assert!(first.only_v6);
}

#[test]
fn a_unix_socket_without_its_file_is_made_again_for_who_asks_next() {
    let path = Path::new("/run/echo.sock");
    let mut table = table();
    let ask = |table: &mut super::Table<Fake>, worker| {
        let socket = table.listen_unix(WorkerId(worker), path, 0o600).unwrap();
        table.ready(WorkerId(worker));
        socket
    };
    let old = [0, 1].map(|worker| ask(&mut table, worker));
    assert_eq!([old[0].id, old[1].id], [0, 0], "one for all");
    table.look_after_files(true);
    table.begin(WorkerId(3), A);
    assert_eq!(ask(&mut table, 3).id, 0, "it was there");

    table.system.removed.push(path.to_owned());
    table.look_after_files(false);
    table.begin(WorkerId(4), A);
    assert_eq!(ask(&mut table, 4).id, 0, "only a reload makes it again");
    table.system.forget(&old[0]);
    table.look_after_files(true);
    table.system.removed.clear();
    let successors = [(5, A), (6, B)].map(|(worker, slot)| {
        table.begin(WorkerId(worker), slot);
        ask(&mut table, worker).id
    });
    assert_eq!(successors, [1, 1]);
    assert!(table.unlisten(WorkerId(6), "/run/echo.sock"));
}

#[test]
fn names_are_told_apart() {
    let mut table = table();
    let file = table.listen_unix(WorkerId(0), Path::new("/@x"), 0).unwrap();
    let abstract_one = table.listen_unix(WorkerId(0), Path::new("@x"), 0).unwrap();
    assert_ne!(file.id, abstract_one.id);
    let addresses = ["127.0.0.1:80".parse().unwrap()];
    let udp = table.bind_udp(WorkerId(0), "a:80", &addresses).unwrap();
    assert_eq!(udp.name.inet().unwrap().0, Kind::Udp);
    listen(&mut table, 0, "a:80", &["127.0.0.1:80"]).unwrap();
    let names: Vec<_> = table.names().map(|name| name.to_string()).collect();
    assert_eq!(names, ["127.0.0.1:80", "127.0.0.1:80 (udp)", "/@x", "@x"]);
    assert!(table.unlisten(WorkerId(0), "@x"));
    assert!(table.unlisten(WorkerId(0), "a:80"));
    assert_eq!(table.names().count(), 1);
}

#[test]
fn who_is_full_or_blocked_borrows_nothing_until_it_is_free_again() {
    let tell: [fn(&mut super::Table<Fake>, bool); 2] = [
        |table, full| table.full(WorkerId(1), 0, full),
        |table, blocked| table.blocked(WorkerId(1), blocked),
    ];
    for tell in tell {
        let mut table = table();
        let sockets = [0, 1].map(|worker| serve(&mut table, worker));
        tell(&mut table, true);
        assert_eq!(orders(&mut table), ["to 0: 1"]);
        table.ended(WorkerId(0));
        assert_eq!(orders(&mut table), ["from 0"]);
        table.park(A);
        assert!(sockets[0].listening.get(), "it can be lent later");
        tell(&mut table, false);
        assert_eq!(orders(&mut table), ["to 1: 0"]);
    }
}

#[test]
fn loans_have_numbers_of_their_own() {
    let mut table = table();
    let first = listen(&mut table, 0, "localhost:80", &LOCALHOST).unwrap();
    table.accepts(WorkerId(0), 0, first.id);
    let second = listen(&mut table, 1, "localhost:80", &[]).unwrap();
    table.accepts(WorkerId(1), 0, second.id);
    table.ended(WorkerId(0));
    let mut loans: Vec<u64> = (table.take_orders().into_iter())
        .map(|order| match order {
            super::Order::Lend { loan, .. } | super::Order::TakeBack { loan, .. } => loan,
        })
        .collect();
    loans.sort_unstable();
    assert_eq!(loans, [1, 2, 3, 4]);
}

/// Datagrams that wait there would wait for nobody.
#[test]
fn the_datagram_socket_of_a_vacant_slot_is_closed() {
    let mut table = table();
    let addresses = ["127.0.0.1:53".parse().unwrap()];
    for worker in [0, 1] {
        let asked = table.bind_udp(WorkerId(worker), "a:53", &addresses);
        drop(asked.unwrap());
        table.ready(WorkerId(worker));
    }
    table.ended(WorkerId(0));
    assert_eq!(table.system.open_sockets().len(), 2);
    table.park(A);
    assert_eq!(table.system.open_sockets().len(), 1);
}

#[test]
fn a_loan_of_another_address_keeps_nothing_from_being_parked() {
    let mut table = table();
    let sockets =
        [0, 1].map(|worker| listen(&mut table, worker, "a:81", &["127.0.0.1:81"]).unwrap());
    for worker in [0, 1] {
        table.ready(WorkerId(worker));
    }
    serve(&mut table, 2);
    table.ended(WorkerId(0));
    table.park(A);
    assert!(!sockets[0].listening.get());
}

#[test]
fn addresses_are_those_that_listen_by_what_was_asked_for() {
    let mut table = table();
    let first = listen(&mut table, 0, "localhost:80", &LOCALHOST).unwrap();
    table.listen_unix(WorkerId(0), Path::new("/x"), 0).unwrap();
    table.listen_unix(WorkerId(0), Path::new("@y"), 0).unwrap();
    let of = |addresses: &[&str]| {
        let of = |at: &&str| ("localhost:80".to_owned(), at.parse::<SocketAddr>().unwrap());
        let inet: Vec<_> = addresses.iter().map(of).collect();
        Addresses::new(inet, ["/x".into()])
    };
    assert_eq!(table.addresses(), of(&LOCALHOST[..1]));
    table.accepts(WorkerId(0), 0, first.id);
    assert_eq!(table.addresses(), of(&LOCALHOST));
}

#[cfg(feature = "monitor")]
#[test]
fn whose_a_socket_is_can_be_seen() {
    use super::Holding;

    let mut table = table();
    let holders = |table: &super::Table<Fake>| table.holders();
    for worker in [0, 1] {
        serve(&mut table, worker);
    }
    listen(&mut table, 2, "127.0.0.1:80", &["127.0.0.1:80"]).unwrap();
    let seen = |a, b, c| vec![("127.0.0.1:80".to_owned(), vec![(A, a), (B, b), (C, c)])];
    let held = Holding::Held;
    assert_eq!(holders(&table), seen(held, held, held));
    table.ended(WorkerId(0));
    assert_eq!(holders(&table), seen(Holding::LentTo(B), held, held));
    table.accepts_no_more(WorkerId(1), 0);
    assert_eq!(holders(&table), seen(Holding::Waiting, held, held));
    table.park(A);
    assert_eq!(holders(&table), seen(Holding::Parked, held, held));
}
