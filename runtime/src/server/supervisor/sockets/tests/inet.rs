//! TCP and UDP sockets.

use super::*;

use std::io::Read;
use std::net::UdpSocket;

#[test]
fn the_nth_port_zero_is_the_same_port_for_all_workers() {
    let mut sockets = table();
    let first = [
        any(&mut sockets, WorkerId(0)),
        any(&mut sockets, WorkerId(1)),
    ]
    .map(|l| l.local_addr().unwrap());
    let second = [
        any(&mut sockets, WorkerId(1)),
        any(&mut sockets, WorkerId(0)),
    ]
    .map(|l| l.local_addr().unwrap());
    assert_eq!(first[0], first[1]);
    assert_eq!(second[0], second[1]);
    assert_ne!(first[0], second[0]);

    sockets.ended(WorkerId(0));
    sockets.begin(WorkerId(2), A);
    assert_eq!(
        any(&mut sockets, WorkerId(2)).local_addr().unwrap(),
        first[0],
        "a successor counts from the start"
    );
}

#[test]
fn connections_spread_over_the_slots() {
    let mut sockets = table();
    let (a, b) = (
        any(&mut sockets, WorkerId(0)),
        any(&mut sockets, WorkerId(1)),
    );
    let _clients = connect(a.local_addr().unwrap(), 200);
    let (a, b) = (waiting(&a), waiting(&b));
    assert_eq!(a + b, 200);
    assert!(a > 40 && b > 40, "{a} and {b}");
}

#[test]
fn the_same_address_again_is_a_clone() {
    let mut sockets = table();
    let one = any(&mut sockets, WorkerId(0));
    let address = one.local_addr().unwrap();
    let two = on(&mut sockets, WorkerId(0), address).unwrap();
    let _client = connect(address, 1);
    assert_eq!(waiting(&two), 1);
    assert_eq!(waiting(&one), 0);
}

#[test]
fn a_crash_leaves_the_backlog_to_the_successor() {
    let mut sockets = table();
    let dead = any(&mut sockets, WorkerId(0));
    let address = dead.local_addr().unwrap();
    let clients = connect(address, 10);
    drop(dead);
    sockets.ended(WorkerId(0));
    sockets.begin(WorkerId(2), A);
    let successor = any(&mut sockets, WorkerId(2));
    assert_eq!(waiting(&successor), 10);
    drop(clients);
}

#[test]
fn a_second_server_is_refused_and_told_where() {
    let mut sockets = table();
    let address = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
    any(&mut sockets, WorkerId(1));
    let mut second = table();
    let error = on(&mut second, WorkerId(0), address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on {address}: Address")),
        "{error}"
    );
    assert!(names(&second).is_empty());

    let mut sharing = Sockets::new(Kernel, true);
    sharing.begin(WorkerId(0), A);
    on(&mut sharing, WorkerId(0), address).unwrap();

    sockets.close(A);
    sockets.close(B);
    sharing.close(A);
    on(&mut second, WorkerId(0), address).unwrap();
}

#[test]
fn a_server_without_reuse_is_in_the_way() {
    let other = TcpListener::bind(localhost()).unwrap();
    let error = on(&mut table(), WorkerId(0), other.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_name_stays_at_the_first_address_that_could_be_bound() {
    let taken = TcpListener::bind(localhost())
        .unwrap()
        .local_addr()
        .unwrap();
    let taken = TcpListener::bind(taken).unwrap();
    let taken = taken.local_addr().unwrap();
    let free = TcpListener::bind(localhost())
        .unwrap()
        .local_addr()
        .unwrap();
    let mut sockets = table();
    let listener = tcp(sockets
        .listen(WorkerId(0), "some.host:1", &[taken, free], false)
        .unwrap());
    assert_eq!(listener.local_addr().unwrap(), free);
    let again = tcp(sockets
        .listen(WorkerId(1), "some.host:1", &[], false)
        .unwrap());
    assert_eq!(
        again.local_addr().unwrap(),
        free,
        "without resolving it again"
    );

    let error = sockets
        .listen(WorkerId(1), "other.host:1", &[], false)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot listen on other.host:1: it has no address"
    );
    let error = sockets
        .listen(
            WorkerId(1),
            "other.host:1",
            &["192.0.2.1:1".parse().unwrap()],
            false,
        )
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    assert!(
        error.to_string().contains("other.host:1: 192.0.2.1:1: "),
        "{error}"
    );
}

#[test]
fn a_parked_slot_gets_no_connection_until_its_successor_asks() {
    let mut sockets = table();
    let (a, b) = (
        any(&mut sockets, WorkerId(0)),
        any(&mut sockets, WorkerId(1)),
    );
    let address = a.local_addr().unwrap();
    drop(a);
    sockets.ended(WorkerId(0));
    sockets.park(A);
    let _clients = connect(address, 50);
    assert_eq!(waiting(&b), 50);

    sockets.begin(WorkerId(2), A);
    let _clients = connect(address, 50);
    assert_eq!(waiting(&b), 50, "a start alone doesn't count");
    let a = any(&mut sockets, WorkerId(2));
    assert_eq!(a.local_addr().unwrap(), address);
    let _clients = connect(address, 200);
    let (a, b) = (waiting(&a), waiting(&b));
    assert_eq!(a + b, 200);
    assert!(a > 40, "{a}");
}

#[test]
fn the_last_listening_slot_is_parked_only_when_a_sibling_serves_again() {
    let mut sockets = table();
    let address = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
    any(&mut sockets, WorkerId(1));
    sockets.ended(WorkerId(0));
    sockets.park(A);
    sockets.ended(WorkerId(1));
    sockets.park(B);
    let waits = connect(address, 10);

    sockets.begin(WorkerId(2), A);
    let a = any(&mut sockets, WorkerId(2));
    assert_eq!(waiting(&a), 0);
    sockets.ready(WorkerId(2));
    for mut client in waits {
        assert!(
            client.read(&mut [0]).is_err(),
            "reset rather than left waiting for B"
        );
    }
    let _clients = connect(address, 10);
    assert_eq!(waiting(&a), 10);
}

#[test]
fn a_worker_that_leaves_does_not_keep_its_slot_from_being_parked() {
    for parked_before in [true, false] {
        let mut sockets = table();
        let (a, b) = (
            any(&mut sockets, WorkerId(0)),
            any(&mut sockets, WorkerId(1)),
        );
        // Its successor is ready, it is told to stop, and the successor dies.
        sockets.begin(WorkerId(2), A);
        let successor = any(&mut sockets, WorkerId(2));
        sockets.ready(WorkerId(2));
        if parked_before {
            drop(successor);
            sockets.ended(WorkerId(2));
            sockets.park(A);
            sockets.leaving(WorkerId(0));
        } else {
            sockets.leaving(WorkerId(0));
            sockets.park(A);
            let _client = connect(a.local_addr().unwrap(), 100);
            assert!(waiting(&successor) > 0);
            waiting(&b);
            drop(successor);
            sockets.ended(WorkerId(2));
        }
        let _clients = connect(a.local_addr().unwrap(), 50);
        assert_eq!(waiting(&b), 50);
    }
}

#[test]
fn a_slot_whose_starting_worker_has_its_socket_is_not_parked() {
    let mut sockets = table();
    let (a, b) = (
        any(&mut sockets, WorkerId(0)),
        any(&mut sockets, WorkerId(1)),
    );
    sockets.park(A);
    let _clients = connect(a.local_addr().unwrap(), 100);
    assert!(waiting(&a) > 0);
    drop(b);
}

#[test]
fn what_a_ready_worker_has_not_asked_for_is_closed() {
    let mut sockets = table();
    let kept = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
    let left = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
    sockets.ended(WorkerId(0));
    sockets.begin(WorkerId(2), A);
    any(&mut sockets, WorkerId(2));
    sockets.ready(WorkerId(2));
    assert_eq!(names(&sockets), [kept.to_string()]);
    assert!(TcpStream::connect(left).is_err());
}

#[test]
fn a_closed_port_ends_with_the_workers_own_drop() {
    let mut sockets = table();
    let listener = any(&mut sockets, WorkerId(0));
    let address = listener.local_addr().unwrap();
    sockets.close(A);
    TcpStream::connect(address).unwrap();
    drop(listener);
    assert_eq!(
        TcpStream::connect(address).unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    let error = on(&mut sockets, WorkerId(0), address).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {address}: the worker is stopping")
    );
}

#[test]
fn unlisten_closes_a_port_unless_the_slots_other_worker_has_it() {
    let mut sockets = table();
    let address = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
    sockets.begin(WorkerId(2), A);
    assert!(
        !sockets.unlisten(WorkerId(2), &address.to_string()),
        "it has not asked for it yet"
    );
    any(&mut sockets, WorkerId(2));
    assert!(sockets.unlisten(WorkerId(0), &localhost().to_string()));
    assert!(
        !sockets.unlisten(WorkerId(0), &localhost().to_string()),
        "it has given it back"
    );
    TcpStream::connect(address).unwrap();
    assert!(sockets.unlisten(WorkerId(2), &address.to_string()));
    assert!(TcpStream::connect(address).is_err());
    assert!(!sockets.unlisten(WorkerId(2), "no address"));
}

#[test]
fn an_extra_shares_no_address_with_the_workers() {
    let mut sockets = table();
    let address = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
    sockets.begin(WorkerId(9), Role::Extra(0));
    assert_ne!(
        any(&mut sockets, WorkerId(9)).local_addr().unwrap(),
        address
    );
    let error = on(&mut sockets, WorkerId(9), address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn udp_sockets_share_a_port_and_a_vacant_slot_has_none() {
    let mut sockets = table();
    let mut open = |worker| {
        UdpSocket::from(
            sockets
                .bind_udp(worker, &localhost().to_string(), &[localhost()])
                .unwrap(),
        )
    };
    let (a, b) = (open(WorkerId(0)), open(WorkerId(1)));
    let address = a.local_addr().unwrap();
    assert_eq!(b.local_addr().unwrap(), address);
    assert!(UdpSocket::bind(address).is_err());
    drop(a);
    sockets.ended(WorkerId(0));
    sockets.park(A);
    for _ in 0..50 {
        UdpSocket::bind(localhost())
            .unwrap()
            .send_to(b"x", address)
            .unwrap();
    }
    let received = std::iter::from_fn(|| b.recv(&mut [0]).ok()).count();
    assert_eq!(received, 50);
}

#[test]
fn ipv6_is_left_as_the_system_has_it() {
    let mut sockets = table();
    let Ok(fd) = sockets.listen(WorkerId(0), "[::]:0", &["[::]:0".parse().unwrap()], false) else {
        return; // no IPv6 here
    };
    let fresh = TcpListener::bind("[::]:0").unwrap();
    assert_eq!(
        rustix::net::sockopt::ipv6_v6only(&fd).unwrap(),
        rustix::net::sockopt::ipv6_v6only(&fresh).unwrap()
    );
}

/// Until a second slot asks, no program of this user can share the address by asking for that.
#[test]
fn only_an_address_of_several_workers_can_be_shared() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

    let intrude = |address: SocketAddr| {
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let intruder = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&intruder, true)?;
        sockopt::set_socket_reuseport(&intruder, true)?;
        rustix::net::bind(&intruder, &address)?;
        rustix::net::listen(&intruder, 1)
    };
    let mut sockets = table();
    let address = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
    assert_eq!(intrude(address), Err(rustix::io::Errno::ADDRINUSE));
    any(&mut sockets, WorkerId(1));
    assert_eq!(intrude(address), Ok(()));
}

#[test]
fn every_address_of_a_name_is_served() {
    let Ok(v6) = "[::1]:0".parse() else { return };
    if TcpListener::bind(v6).is_err() {
        return; // no IPv6 here
    }
    let addresses = [v6, localhost()];
    let mut sockets = table();
    let first = tcp(sockets
        .listen(WorkerId(0), "some.host:0", &addresses, true)
        .unwrap());
    let bound = first.local_addr().unwrap();
    let mut further = localhost();
    further.set_port(bound.port());
    assert!(
        TcpStream::connect(further).is_err(),
        "nobody would accept there"
    );
    let inode = rustix::fs::fstat(&first).unwrap().st_ino;
    sockets.accepts(WorkerId(0), 0, inode);
    let orders = sockets.take_orders();
    let [Order::Lend { socket, .. }] = <[_; 1]>::try_from(orders).unwrap() else {
        panic!("it is taken back")
    };
    let _clients = [bound, further].map(|address| TcpStream::connect(address).unwrap());
    assert_eq!([waiting(&first), waiting(&tcp(socket))], [1, 1]);
}

#[test]
fn each_family_has_a_socket_of_the_same_port() {
    let (v4, v6): (SocketAddr, SocketAddr) =
        ("0.0.0.0:0".parse().unwrap(), "[::]:0".parse().unwrap());
    for (one, two) in [(v4, v6), (v6, v4)] {
        let mut sockets = table();
        let Ok(one) = on(&mut sockets, WorkerId(0), one) else {
            return; // no IPv6 here
        };
        let bound = one.local_addr().unwrap();
        let two = SocketAddr::new(two.ip(), bound.port());
        let two = on(&mut sockets, WorkerId(0), two).unwrap();
        // And of its sibling.
        on(&mut sockets, WorkerId(1), bound).unwrap();
        on(&mut sockets, WorkerId(1), two.local_addr().unwrap()).unwrap();
        sockets.close(B);

        let reached = |listener: &TcpListener| match listener.local_addr().unwrap().is_ipv4() {
            true => SocketAddr::from(([127, 0, 0, 1], bound.port())),
            false => SocketAddr::new("::1".parse().unwrap(), bound.port()),
        };
        for (listener, other) in [(&one, &two), (&two, &one)] {
            let _clients = connect(reached(listener), 3);
            assert_eq!([waiting(listener), waiting(other)], [3, 0]);
        }
    }
}

/// What one leaves waiting, the other takes.
#[test]
fn a_lent_socket_loses_nothing_on_its_way_there_and_back() {
    let mut sockets = table();
    let (a, b) = (
        any(&mut sockets, WorkerId(0)),
        any(&mut sockets, WorkerId(1)),
    );
    let address = a.local_addr().unwrap();
    for (number, listener) in [(0, &a), (1, &b)] {
        let inode = rustix::fs::fstat(listener).unwrap().st_ino;
        sockets.accepts(WorkerId(number), 0, inode);
        sockets.ready(WorkerId(number));
    }
    assert!(sockets.take_orders().is_empty());
    let before = connect(address, 100);
    drop(a);
    sockets.ended(WorkerId(0));
    let orders = sockets.take_orders();
    let [Order::Lend { to, socket, .. }] = <[_; 1]>::try_from(orders).unwrap() else {
        panic!("nothing is lent")
    };
    assert_eq!(to, WorkerId(1));
    let lent = tcp(socket);
    assert_eq!(waiting(&lent) + waiting(&b), 100);

    let during = connect(address, 100);
    sockets.park(A);
    sockets.begin(WorkerId(2), A);
    let successor = any(&mut sockets, WorkerId(2));
    let inode = rustix::fs::fstat(&successor).unwrap().st_ino;
    sockets.accepts(WorkerId(2), 0, inode);
    assert!(matches!(
        sockets.take_orders()[..],
        [Order::TakeBack { .. }]
    ));
    drop(lent);
    let at_successor = waiting(&successor);
    assert!(at_successor > 20, "{at_successor}");
    assert_eq!(at_successor + waiting(&b), 100);
    drop((before, during));
}
