use std::path::Path;

use super::super::fake::*;
use super::*;
use crate::server::supervisor::policy::WorkerId;

const EXTRA: Role = Role::Extra(0);

/// The predecessor's table, its system gone over to the successor, in which workers 10, 11 and 12 start in the same slots.
fn successor(table: &mut Table<Fake>) -> Table<Fake> {
    let estate = table.estate().unwrap();
    let mut next = Table::new(Fake::default(), false);
    next.system.open_before(&table.system);
    next.succeed(estate).unwrap();
    for (number, slot) in (10..).zip([A, B, C]) {
        next.begin(WorkerId(number), slot);
    }
    next
}

#[test]
fn each_slot_gets_the_socket_that_it_had() {
    let mut table = table();
    let old: Vec<u64> = (0..3).map(|worker| serve(&mut table, worker).id).collect();
    let mut next = successor(&mut table);
    let new: Vec<u64> = (10..13).map(|worker| serve(&mut next, worker).id).collect();
    assert_eq!(new, old);
}

#[test]
fn a_port_that_was_chosen_stays() {
    let mut table = table();
    let first = listen(&mut table, 0, "127.0.0.1:0", &["127.0.0.1:0"]).unwrap();
    let second = listen(&mut table, 0, "127.0.0.1:0", &["127.0.0.1:0"]).unwrap();
    let mut next = successor(&mut table);
    for old in [first, second] {
        let new = listen(&mut next, 10, "127.0.0.1:0", &["127.0.0.1:0"]).unwrap();
        assert_eq!(new.name, old.name);
    }
}

#[test]
fn a_slot_that_is_new_gets_a_socket_beside_the_others() {
    let mut table = table();
    let (a, b) = (serve(&mut table, 0), serve(&mut table, 1));
    let mut next = successor(&mut table);
    let c = serve(&mut next, 12);
    assert!(a.id != c.id && b.id != c.id && c.shared.get() && a.shared.get());
}

#[test]
fn nothing_is_parked_while_both_have_it() {
    let mut table = table();
    let (a, _b) = (serve(&mut table, 0), serve(&mut table, 1));
    let mut next = successor(&mut table);
    listen(&mut next, 11, "127.0.0.1:80", &["127.0.0.1:80"]).unwrap();
    next.ended(WorkerId(10));
    next.park(A);
    assert!(a.listening.get());
    next.share_with_another(false);
    assert!(!a.listening.get());
}

#[test]
fn an_address_in_the_way_is_bound_beside_what_was_handed_over() {
    for (old, new) in [
        ("127.0.0.1:80", "0.0.0.0:80"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("[::]:80", "127.0.0.1:80"),
    ] {
        let mut table = table();
        let before = listen(&mut table, 0, old, &[old]).unwrap();
        let mut next = successor(&mut table);
        let after = listen(&mut next, 10, new, &[new]).unwrap();
        assert!(before.shared.get() && after.shared.get(), "{old} {new}");
    }
}

#[test]
fn what_an_extra_had_may_be_the_workers() {
    let mut table = table();
    table.begin(WorkerId(3), EXTRA);
    let old = listen(&mut table, 3, "127.0.0.1:80", &["127.0.0.1:80"]).unwrap();
    let mut next = successor(&mut table);
    assert_eq!(serve(&mut next, 10).id, old.id);
    next.begin(WorkerId(13), EXTRA);
    let refused = listen(&mut next, 13, "127.0.0.1:80", &["127.0.0.1:80"]);
    assert!(refused.is_err(), "it is the workers' now");
}

#[test]
fn what_nobody_has_asked_for_is_closed_and_nothing_else_is() {
    let mut table = table();
    let c = {
        serve(&mut table, 0);
        serve(&mut table, 1);
        serve(&mut table, 2)
    };
    let mut next = successor(&mut table);
    let a = serve(&mut next, 10);
    next.close_orphans(|role| role == A);
    drop(next.take_orders());
    drop(table);
    assert_eq!(
        (std::rc::Rc::strong_count(&c), a.listening.get()),
        (1, true)
    );
    assert!(std::rc::Rc::strong_count(&a) > 1);
}

#[test]
fn the_file_of_a_unix_socket_is_taken_over_when_that_is_said() {
    let mut table = table();
    let path = Path::new("/run/server.sock");
    table.listen_unix(WorkerId(0), path, 0o600).unwrap();
    let mut next = successor(&mut table);
    next.listen_unix(WorkerId(10), path, 0o600).unwrap();
    next.listen_unix(WorkerId(12), path, 0o600).unwrap();
    assert!(next.system.owned.is_empty());
    next.own_files(true);
    assert!(next.system.owned.contains(path));
}
