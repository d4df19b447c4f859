//! Streams that break off, that are not ours, or that break the rules.

use super::super::*;
use super::{DIALECTS, of_length};

use crate::server::line::wire::message::{Answer, ToSupervisor};

fn decoder() -> Decoder<u32> {
    let mut decoder = Decoder::new(&WORKERS);
    decoder.push(&greeting(&WORKERS), []);
    decoder
}

/// A frame with this payload.
fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&length.to_le_bytes(), payload].concat()
}

fn next(decoder: &mut Decoder<u32>) -> Result<Option<(ToWorker, Attached<u32>)>, WireError> {
    decoder.next()
}

fn answer() -> ToWorker {
    let answer = Answer::Socket;
    ToWorker::Answer { request: 1, answer }
}

#[test]
fn a_stream_that_breaks_off_is_waited_for() {
    for dialect in DIALECTS {
        let mut stream = greeting(dialect);
        let greeted = stream.len();
        stream.extend(encode(&answer(), true).unwrap());
        for end in 0..stream.len() {
            let mut decoder = Decoder::new(dialect);
            // Before the greeting is here it belongs to nothing.
            decoder.push(&stream[..end.min(greeted)], [Attached::Lost]);
            assert_eq!(next(&mut decoder).unwrap(), None, "{end}");
            decoder.push(
                &stream[end.min(greeted)..end],
                (end > greeted).then_some(Attached::Descriptor(3)),
            );
            assert_eq!(next(&mut decoder).unwrap(), None, "{end}");
            assert_eq!(next(&mut decoder).unwrap(), None, "{end}");
            decoder.push(
                &stream[end..],
                (end <= greeted).then_some(Attached::Descriptor(3)),
            );
            let whole = Some((answer(), Attached::Descriptor(3)));
            assert_eq!(next(&mut decoder).unwrap(), whole, "{end}");
            assert_eq!(next(&mut decoder).unwrap(), None, "{end}");
        }
    }
}

#[test]
fn who_greets_otherwise_is_a_stranger() {
    for dialect in DIALECTS {
        for wrong in 0..dialect.magic.len() {
            let mut stream = greeting(dialect);
            stream[wrong] ^= 1;
            for seen in [wrong + 1, stream.len()] {
                let mut decoder = Decoder::new(dialect);
                decoder.push(&stream[..seen], []);
                assert!(matches!(next(&mut decoder), Err(WireError::Stranger)));
            }
        }
    }
    let mut decoder = Decoder::new(&WORKERS);
    decoder.push(&greeting(&HANDOVER), []);
    assert!(matches!(next(&mut decoder), Err(WireError::Stranger)));
}

#[test]
fn another_version_is_named_whatever_its_name_is() {
    for (dialect, what, which) in [
        (&WORKERS, "wire protocol", "protocol"),
        (&HANDOVER, "handover format", "format"),
    ] {
        for (name, shown) in [
            (&b""[..], ""),
            (b"12.3.4-rc.1", "12.3.4-rc.1"),
            (b"\xff", "\u{fffd}"),
        ] {
            let ours = dialect.version;
            let other = ours + 256;
            let length = [u8::try_from(name.len()).unwrap()];
            let stream = [dialect.magic, &other.to_le_bytes(), &length, name].concat();
            let (last, before) = stream.split_last().unwrap();
            let mut decoder = Decoder::new(dialect);
            decoder.push(before, []);
            assert_eq!(next(&mut decoder).unwrap(), None);
            decoder.push(&[*last], []);
            assert_eq!(
                next(&mut decoder).unwrap_err().to_string(),
                format!(
                    "the other process uses aioxide {shown} ({what} {other}), this one aioxide {VERSION} ({what} \
                     {ours}): both must use the same {which}"
                )
            );
        }
    }
}

#[test]
fn what_is_no_message_is_refused() {
    let number = |number: u8| vec![0x81, 0xa4, b'P', b'i', b'n', b'g', number];
    let mut decoder = decoder();
    decoder.push(&framed(&number(7)), []);
    let ping = Some((ToWorker::Ping(7), Attached::Nothing));
    assert_eq!(next(&mut decoder).unwrap(), ping, "the table is right");
    let table: [(&str, &[u8]); 7] = [
        ("nothing", &[]),
        ("a number", &[7]),
        ("an unknown message", &[0xa4, b'P', b'o', b'n', b'g']),
        ("a number too few", &number(7)[..6]),
        ("a text for a number", &number(0xa0)),
        ("no MessagePack", &[0xc1]),
        (
            "a list that is longer than its frame",
            &[0xdd, 0xff, 0xff, 0xff, 0xff],
        ),
    ];
    for (what, payload) in table {
        let mut decoder = self::decoder();
        decoder.push(&framed(payload), []);
        decoder.push(&framed(&number(7)), []);
        for _ in 0..2 {
            let error = next(&mut decoder).unwrap_err();
            assert!(
                matches!(error, WireError::Undecodable(_)),
                "{what}: {error}"
            );
        }
    }
}

#[test]
fn bytes_are_no_list_of_numbers() {
    let list = rmp_serde::to_vec_named(&vec![1, 2, 3]).unwrap();
    let error = rmp_serde::from_slice::<Bytes>(&list).unwrap_err();
    assert!(error.to_string().contains("expected bytes"), "{error}");
}

#[test]
fn the_longest_frame_arrives_and_a_longer_one_is_neither_sent_nor_read() {
    let longest = of_length(MAX_FRAME);
    let frame = encode(&longest, false).unwrap();
    assert_eq!(frame.len(), MAX_FRAME);
    let mut decoder = decoder();
    decoder.push(&frame, []);
    let arrived = decoder.next::<ToSupervisor>().unwrap();
    assert_eq!(arrived, Some((longest, Attached::Nothing)));

    let error = encode(&of_length(MAX_FRAME + 1), false).unwrap_err();
    let says = "a frame of 65537 bytes, where at most 65536 are allowed";
    assert_eq!(error.to_string(), says);
    let length = (MAX_FRAME - HEADER) as u32 + 1;
    for header in [length, length | WITH_DESCRIPTOR] {
        let mut decoder = self::decoder();
        decoder.push(&header.to_le_bytes(), [Attached::Descriptor(1)]);
        assert_eq!(next(&mut decoder).unwrap_err().to_string(), says);
    }
}

#[test]
fn a_descriptor_that_no_frame_claims_goes_to_no_other() {
    let mut decoder = decoder();
    let (ping, answered) = (ToWorker::Ping(1), encode(&answer(), true).unwrap());
    decoder.push(&encode(&ping, false).unwrap(), [Attached::Descriptor(1)]);
    assert_eq!(next(&mut decoder).unwrap(), Some((ping, Attached::Nothing)));
    assert_eq!(next(&mut decoder).unwrap(), None);
    // Of two that come with a frame's first bytes it can only claim one.
    decoder.push(
        &answered[..3],
        [Attached::Descriptor(2), Attached::Descriptor(3)],
    );
    assert_eq!(next(&mut decoder).unwrap(), None);
    decoder.push(&answered[3..], []);
    decoder.push(&answered, [Attached::Descriptor(4)]);
    for descriptor in [2, 4] {
        let expected = Some((answer(), Attached::Descriptor(descriptor)));
        assert_eq!(next(&mut decoder).unwrap(), expected);
    }
}
