//! What is sent arrives, and what is kept meanwhile is bounded.

mod broken;
mod outbox;

use super::*;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::server::line::wire::MAX_MAIN;
use crate::server::line::wire::message::{Answer, Assembly, Reason, ToSupervisor, encode_main};

/// All that an outbox has to send, and where in it which descriptor goes out.
fn drain(outbox: &mut Outbox<u32>) -> (Vec<u8>, Vec<(usize, u32)>) {
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    while let Some((front, descriptor)) = outbox.front().unwrap() {
        descriptors.extend(descriptor.map(|&descriptor| (bytes.len(), descriptor)));
        bytes.extend_from_slice(front);
        let sent = front.len();
        outbox.advance(sent);
    }
    (bytes, descriptors)
}

const DIALECTS: [&Dialect; 2] = [&WORKERS, &HANDOVER];

/// A message whose frame has so many bytes, of which there are enough for the length of its text to take two.
fn of_length(length: usize) -> ToSupervisor {
    let reported = |length| ToSupervisor::Reported("x".repeat(length));
    let around = encode(&reported(256), false).unwrap().len() - 256;
    reported(length - around)
}

fn decode_all<M: DeserializeOwned>(
    decoder: &mut Decoder<u32>,
    to: &mut Vec<(M, Attached<u32>)>,
) -> Result<(), WireError> {
    while let Some(message) = decoder.next()? {
        to.push(message);
    }
    Ok(())
}

fn message() -> impl Strategy<Value = (ToWorker, Option<u32>)> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..3000).prop_map(Bytes);
    prop_oneof![
        any::<u64>().prop_map(|n| (ToWorker::Ping(n), None)),
        Just((ToWorker::Tell, None)),
        (any::<i32>(), any::<std::time::Duration>()).prop_map(|(signal, left)| {
            (
                ToWorker::Stop {
                    reason: Reason::Signal(signal),
                    left,
                },
                None,
            )
        }),
        (bytes, any::<bool>()).prop_map(|(bytes, last)| (ToWorker::Main { bytes, last }, None)),
        (any::<u64>(), any::<u32>()).prop_map(|(request, descriptor)| {
            (
                ToWorker::Answer {
                    request,
                    answer: Answer::Socket,
                },
                Some(descriptor),
            )
        }),
    ]
}

proptest! {
    #[test]
    fn any_split_of_the_stream_gives_the_same_messages(
        messages in proptest::collection::vec(message(), 0..20),
        cuts in proptest::collection::vec(any::<Index>(), 0..40),
    ) {
        let mut outbox = Outbox::new(&WORKERS);
        for (message, descriptor) in &messages {
            outbox.push(message, *descriptor).unwrap();
        }
        let (bytes, descriptors) = drain(&mut outbox);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();

        let mut decoder = Decoder::new(&WORKERS);
        let mut decoded = Vec::new();
        for cut in cuts.windows(2) {
            let within = descriptors.iter().filter(|(at, _)| (cut[0]..cut[1]).contains(at));
            decoder.push(&bytes[cut[0]..cut[1]], within.map(|(_, fd)| Attached::Descriptor(*fd)));
            decode_all::<ToWorker>(&mut decoder, &mut decoded).unwrap();
        }
        let expected: Vec<_> = messages
            .into_iter()
            .map(|(message, fd)| (message, fd.map_or(Attached::Nothing, Attached::Descriptor)))
            .collect();
        prop_assert_eq!(decoded, expected);
        prop_assert!(decoder.descriptors.is_empty());
    }

    #[test]
    fn garbage_is_an_error_and_takes_no_memory(
        greeted in any::<bool>(),
        garbage in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..200), 0..40
        ),
    ) {
        let mut decoder = Decoder::new(&WORKERS);
        if greeted {
            decoder.push(&greeting(&WORKERS), []);
        }
        let mut decoded = Vec::new();
        for chunk in &garbage {
            decoder.push(chunk, [Attached::Descriptor(1), Attached::Lost]);
            if decode_all::<ToSupervisor>(&mut decoder, &mut decoded).is_err() {
                prop_assert!(decode_all::<ToSupervisor>(&mut decoder, &mut decoded).is_err());
                break;
            }
            prop_assert!(decoder.bytes.len() <= MAX_FRAME + 200);
            prop_assert!(decoder.descriptors.len() <= 1);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_main_value_arrives_whole(length in 0..3 * MAX_FRAME) {
        let value: Vec<u8> = (0..length).map(|n| n as u8).collect();
        let mut outbox = Outbox::<u32>::new(&WORKERS);
        outbox.push_main(value.clone().into());
        let (bytes, _) = drain(&mut outbox);
        prop_assert!(outbox.is_empty());
        let mut decoder = Decoder::<u32>::new(&WORKERS);
        decoder.push(&bytes, []);
        let mut assembly = Assembly::default();
        let mut whole = None;
        while let Some((message, _)) = decoder.next().unwrap() {
            let ToWorker::Main { bytes, last } = message else { panic!("{message:?}") };
            prop_assert!(whole.is_none());
            whole = assembly.add(&bytes, last).unwrap();
        }
        prop_assert_eq!(whole, Some(value));
    }
}

#[test]
fn a_message_without_its_descriptor_is_an_error() {
    let mut outbox = Outbox::new(&WORKERS);
    outbox
        .push(
            &ToWorker::Answer {
                request: 1,
                answer: Answer::Socket,
            },
            Some(1),
        )
        .unwrap();
    let mut decoder = Decoder::<u32>::new(&WORKERS);
    decoder.push(&drain(&mut outbox).0, []);
    assert!(matches!(
        decoder.next::<ToWorker>(),
        Err(WireError::NoDescriptor)
    ));
}

#[test]
fn the_queue_is_bounded_and_tells_once() {
    let mut outbox = Outbox::<u32>::new(&WORKERS);
    for _ in 0..MAX_QUEUE {
        outbox.push_once(&ToWorker::Tell).unwrap();
    }
    let refused = (0..MAX_QUEUE as u64).filter(|n| outbox.push(&ToWorker::Ping(*n), None).is_err());
    assert_eq!(
        refused.count(),
        2,
        "the greeting and one Tell had a place each"
    );
}

#[test]
fn other_messages_overtake_a_main_value() {
    let mut outbox = Outbox::<u32>::new(&WORKERS);
    outbox.push_main(vec![0; 2 * PART].into());
    let greeting = outbox.front().unwrap().unwrap().0.len();
    outbox.advance(greeting);
    outbox.front().unwrap();
    outbox.push(&ToWorker::Tell, None).unwrap();
    let (bytes, _) = drain(&mut outbox);
    let mut decoder = Decoder::<u32>::new(&WORKERS);
    decoder.push(&super::greeting(&WORKERS), []);
    decoder.push(&bytes, []);
    let kinds = std::iter::from_fn(|| decoder.next::<ToWorker>().unwrap());
    let kinds: Vec<bool> = kinds
        .map(|(message, _)| message == ToWorker::Tell)
        .collect();
    assert_eq!(kinds, [false, true, false]);
}

#[test]
fn a_main_value_has_a_limit_at_both_ends() {
    let long = "x".repeat(MAX_MAIN);
    let error = encode_main(&long).unwrap_err().to_string();
    assert_eq!(
        error,
        "a main context's value of 16777221 bytes, where at most 16777216 are allowed"
    );
    let header = 5;
    let longest = encode_main(&&long[header..]).unwrap();
    assert_eq!(longest.len(), MAX_MAIN);

    let mut assembly = Assembly::default();
    let (first, last) = (Bytes(longest[..7].to_vec()), Bytes(longest[7..].to_vec()));
    assert_eq!(assembly.add(&first, false).unwrap(), None);
    assert!(assembly.add(&last, true).unwrap().as_deref() == Some(&*longest));
    assembly.add(&Bytes(longest.to_vec()), false).unwrap();
    let error = assembly.add(&Bytes(vec![0]), true).unwrap_err();
    assert!(matches!(error, WireError::MainTooLong(length) if length == MAX_MAIN + 1));
}
