//! How much there is room for, and what goes out of it.

use super::super::*;
use super::{drain, of_length};

use crate::server::line::wire::message::ToSupervisor;

fn outbox() -> Outbox<u32> {
    Outbox::greeted()
}

/// How many of them find room.
fn fill(outbox: &mut Outbox<u32>, room: Room, message: &ToSupervisor) -> usize {
    let push = |_: &_| match outbox.push_within(room, message, None) {
        Ok(()) => true,
        Err(WireError::QueueFull) => false,
        Err(error) => panic!("{error}"),
    };
    (0..1000).take_while(push).count()
}

/// The front goes out whole.
fn send_one(outbox: &mut Outbox<u32>) {
    let length = outbox.front().unwrap().unwrap().0.len();
    outbox.advance(length);
}

#[test]
fn frames_and_their_bytes_are_limited() {
    let (longest, shortest) = (of_length(MAX_FRAME), ToSupervisor::Ready);
    for (message, room, fit) in [
        (&longest, Room::Half, 2),
        (&longest, Room::Whole, 4),
        (&longest, Room::Beyond, 1000),
        (&shortest, Room::Half, MAX_QUEUE / 2),
        (&shortest, Room::Whole, MAX_QUEUE),
        (&shortest, Room::Beyond, 1000),
    ] {
        let mut outbox = outbox();
        assert_eq!(fill(&mut outbox, room, message), fit, "{room:?}");
        if fit < 1000 {
            send_one(&mut outbox);
            assert_eq!(fill(&mut outbox, room, message), 1, "{room:?}");
        }
        drain(&mut outbox);
        assert!(outbox.is_empty());
        assert_eq!(fill(&mut outbox, room, message), fit, "{room:?}");
    }
}

#[test]
fn the_greeting_takes_its_place() {
    let mut outbox = Outbox::new(&WORKERS);
    assert_eq!(fill(&mut outbox, Room::Whole, &of_length(MAX_FRAME)), 3);
    send_one(&mut outbox);
    assert_eq!(fill(&mut outbox, Room::Whole, &of_length(MAX_FRAME)), 1);
}

#[test]
fn whoever_looks_for_room_first_finds_it() {
    let longest = of_length(MAX_FRAME);
    for message in [&longest, &of_length(MAX_FRAME / 3), &ToSupervisor::Ready] {
        let mut whole = outbox();
        while whole.has_room() {
            whole.push(message, None).unwrap();
        }
        assert_eq!(fill(&mut whole, Room::Whole, &longest), 0);

        let mut half = outbox();
        while !half.is_half_full() {
            half.push(message, None).unwrap();
        }
        assert_eq!(fill(&mut half, Room::Half, message), 0);
        assert!(half.has_room(), "the other half is free");
    }
}

#[test]
fn what_is_to_be_said_once_waits_once() {
    let mut outbox = outbox();
    outbox.push_once(&ToWorker::Tell).unwrap();
    outbox.push_once(&ToWorker::Ping(1)).unwrap();
    outbox.push_once(&ToWorker::Tell).unwrap();
    assert_eq!(outbox.frames.len(), 2);
    // The other side may be acting on what has begun to go out.
    outbox.advance(1);
    outbox.push_once(&ToWorker::Tell).unwrap();
    outbox.push_once(&ToWorker::Tell).unwrap();
    assert_eq!(outbox.frames.len(), 3);
}

#[test]
fn a_descriptor_goes_with_the_first_byte() {
    let mut outbox = outbox();
    outbox.push(&ToWorker::Tell, Some(1)).unwrap();
    outbox.push(&ToWorker::Ping(1), Some(2)).unwrap();
    let frame = encode(&ToWorker::Tell, true).unwrap();
    assert_eq!(outbox.front().unwrap(), Some((&frame[..], Some(&1))));
    outbox.advance(0);
    assert_eq!(outbox.front().unwrap(), Some((&frame[..], Some(&1))));
    outbox.advance(1);
    assert_eq!(outbox.front().unwrap(), Some((&frame[1..], None)));
    outbox.advance(2);
    assert_eq!(outbox.front().unwrap(), Some((&frame[3..], None)));
    outbox.advance(frame.len() - 3);
    let frame = encode(&ToWorker::Ping(1), true).unwrap();
    assert_eq!(outbox.front().unwrap(), Some((&frame[..], Some(&2))));
}

#[test]
fn parts_of_a_main_value_fill_their_frames() {
    let mut outbox = outbox();
    outbox.push_main(vec![7; 2 * MAX_FRAME].into());
    let mut lengths = Vec::new();
    while !outbox.is_empty() {
        lengths.push(outbox.front().unwrap().unwrap().0.len());
        send_one(&mut outbox);
    }
    let full = MAX_FRAME - 64..=MAX_FRAME;
    assert!(
        matches!(lengths[..], [first, second, last]
            if full.contains(&first) && full.contains(&second) && last < 256),
        "{lengths:?}"
    );
    assert!(outbox.front().unwrap().is_none());
}

#[test]
fn nothing_is_left_of_what_is_dropped() {
    let mut outbox = outbox();
    fill(&mut outbox, Room::Whole, &of_length(MAX_FRAME));
    outbox.advance(1);
    outbox.push_main(vec![7; MAX_FRAME].into());
    outbox.clear();
    assert!(outbox.is_empty() && outbox.front().unwrap().is_none());
    outbox.advance(1);
    assert_eq!(fill(&mut outbox, Room::Whole, &of_length(MAX_FRAME)), 4);
    let frame = encode(&of_length(MAX_FRAME), false).unwrap();
    assert_eq!(drain(&mut outbox).0, frame.repeat(4));
}
