//! What both sides have to agree on, be they of one version or of two with the same protocol.

use std::fmt::Debug;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{Decoder, Outbox, WORKERS, greeting};
use super::message::Reason;
use super::*;
use crate::server::StopReason;
use crate::server::line::{Passed, Role};
#[cfg(feature = "timer")]
use crate::server::line::{Reached, SingleAnswer, SingleCall};

/// What is sent of it, after the greeting.
fn sent<M: Serialize>(message: &M, descriptor: Option<u32>) -> Vec<u8> {
    let mut outbox = Outbox::greeted();
    outbox.push(message, descriptor).unwrap();
    outbox.front().unwrap().unwrap().0.to_owned()
}

fn arrive<M: Serialize + DeserializeOwned + PartialEq + Debug>(
    messages: impl IntoIterator<Item = M>,
) {
    for message in messages {
        let mut decoder = Decoder::<u32>::new(&WORKERS);
        decoder.push(&greeting(&WORKERS), []);
        decoder.push(&sent(&message, None), []);
        let arrived: Option<(M, _)> = decoder.next().unwrap();
        assert_eq!(arrived, Some((message, Attached::Nothing)));
    }
}

fn text() -> String {
    "größer 🦀".to_owned()
}

fn bytes() -> Bytes {
    Bytes((0..=255).collect())
}

/// Never to be changed: by it any two versions can tell each other why they part.
#[test]
fn a_greeting_is_what_it_has_always_been() {
    for (dialect, magic, version) in [
        (&WORKERS, &b"aioxide\0"[..], PROTOCOL),
        (&HANDOVER, b"aioxide-handover\0", HANDOVER_FORMAT),
    ] {
        let [low, high] = version.to_le_bytes();
        let length = u8::try_from(VERSION.len()).unwrap();
        let name = VERSION.as_bytes();
        let expected = [magic, &[low, high, length], name].concat();
        assert_eq!(greeting(dialect), expected);
    }
}

/// Changes together with [`PROTOCOL`], and so do the limits.
#[test]
fn a_frame_is_its_length_its_flag_and_messagepack() {
    let ping = b"\x07\0\0\0\x81\xa4Ping\x01";
    assert_eq!(sent(&ToWorker::Ping(1), None), ping);
    let with_descriptor = b"\x07\0\0\x80\x81\xa4Ping\x01";
    assert_eq!(sent(&ToWorker::Ping(1), Some(3)), with_descriptor);
    let bytes = Bytes(b"xyz".to_vec());
    let main = b"\x18\0\0\0\x81\xa4Main\x82\xa5bytes\xc4\x03xyz\xa4last\xc3";
    assert_eq!(sent(&ToWorker::Main { bytes, last: true }, None), main);
}

#[test]
fn limits_are_those_of_the_protocol() {
    assert_eq!((MAX_FRAME, MAX_MAIN), (65_536, 16_777_216));
    #[cfg(feature = "monitor")]
    assert_eq!(crate::server::line::LONGEST_ANSWER, 4_194_304);
}

#[test]
fn whatever_a_supervisor_says_arrives() {
    let hello = |role| {
        ToWorker::Hello(Assignment {
            server: text(),
            role,
            count: 4,
            generation: u64::MAX,
            shutdown_timeout: Duration::new(25, 1),
            stop_signals: vec![2, 15],
            upgrade_signal: Some(12),
            run_to_completion: true,
            max_connections: Some(1000),
            main: true,
            #[cfg(feature = "monitor")]
            watched: true,
        })
    };
    let answer = |answer| ToWorker::Answer { request: 1, answer };
    let refusal = Refusal::from(&io::Error::from(io::ErrorKind::AddrInUse));
    arrive([
        hello(Role::Slot(1)),
        hello(Role::Extra(0)),
        ToWorker::Main {
            bytes: bytes(),
            last: false,
        },
        answer(Answer::Socket),
        answer(Answer::Unlistened { found: true }),
        answer(Answer::Refused(refusal)),
        ToWorker::Stop {
            reason: Reason::Signal(15),
            left: Duration::MAX,
        },
        ToWorker::Going,
        ToWorker::Tell,
        ToWorker::Ping(u64::MAX),
        ToWorker::Lend {
            serving: 1,
            loan: 2,
        },
        ToWorker::TakeBack {
            serving: 1,
            loan: 2,
        },
        ToWorker::Rest {
            serving: 1,
            rest: true,
        },
    ]);
    #[cfg(feature = "timer")]
    {
        let (due, done) = (1_800_000_000_000_000_000, true);
        let last = Some(Reached { due, done });
        let answers = [
            SingleAnswer::Held { token: 1, last },
            SingleAnswer::Taken,
            SingleAnswer::Done,
            SingleAnswer::Stale,
            SingleAnswer::Refused(text()),
        ];
        arrive(answers.map(|answer| ToWorker::Single { request: 1, answer }));
        arrive([ToWorker::Freed]);
    }
    #[cfg(feature = "monitor")]
    arrive([
        ToWorker::Query {
            number: 1,
            query: bytes(),
        },
        ToWorker::More(1),
    ]);
}

#[test]
fn whatever_a_worker_says_arrives() {
    let addresses = || vec!["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()];
    let wanted = [
        Wanted::Tcp {
            text: text(),
            addresses: addresses(),
            all: true,
        },
        Wanted::Udp {
            text: text(),
            addresses: addresses(),
        },
        Wanted::Unix {
            path: bytes(),
            mode: 0o660,
        },
        Wanted::Named {
            kind: Passed::Unix,
            name: text(),
        },
    ];
    arrive(wanted.map(|wanted| ToSupervisor::Listen { request: 1, wanted }));
    let (serving, socket) = (1, u64::MAX);
    arrive([
        ToSupervisor::Hello { pid: u32::MAX },
        ToSupervisor::Unlisten {
            request: 1,
            text: text(),
        },
        ToSupervisor::Accepts { serving, socket },
        ToSupervisor::AcceptsNoMore { serving },
        ToSupervisor::TakesTurns { serving, socket },
        ToSupervisor::TurnOver { serving },
        ToSupervisor::Full {
            serving,
            full: true,
        },
        ToSupervisor::Ready,
        ToSupervisor::Blocked(true),
        ToSupervisor::Signalled(15),
        ToSupervisor::Pong(1),
        ToSupervisor::Accepted(1),
        ToSupervisor::Reported(text()),
        ToSupervisor::Ending { failure: None },
        ToSupervisor::Ended {
            failure: Some(text()),
            overran: true,
        },
    ]);
    #[cfg(feature = "timer")]
    {
        let (name, owner, token) = (text(), text(), 1);
        let (due, done) = (u64::MAX, false);
        let reached = Reached { due, done };
        let calls = [
            SingleCall::Hold {
                name: name.clone(),
                owner,
            },
            SingleCall::Record {
                name: name.clone(),
                token,
                reached,
            },
            SingleCall::Release { name, token },
        ];
        arrive(calls.map(|call| ToSupervisor::Single { request: 1, call }));
    }
    #[cfg(feature = "monitor")]
    arrive([
        ToSupervisor::Answered {
            number: 1,
            part: bytes(),
            last: true,
        },
        ToSupervisor::Happened(bytes()),
        ToSupervisor::LastFigures {
            part: bytes(),
            last: false,
        },
    ]);
}

#[test]
fn a_stop_arrives_with_its_reason() {
    use crate::server::Signal;

    for reason in [
        StopReason::Signal(Signal::SIGTERM),
        StopReason::Signal(Signal::from_raw(40)),
        StopReason::Failure,
        StopReason::Restart,
        StopReason::ScaleDown,
        StopReason::Requested,
        StopReason::Completed,
        StopReason::SupervisorGone,
    ] {
        let left = Duration::from_secs(1);
        let stop = ToWorker::Stop {
            reason: Reason::from(reason),
            left,
        };
        arrive([stop]);
        assert_eq!(StopReason::from(Reason::from(reason)), reason);
    }
}

#[test]
fn what_is_wanted_is_as_long_as_its_texts_and_addresses() {
    let addresses = || vec!["127.0.0.1:80".parse().unwrap(); 3];
    let three = 3 * size_of::<std::net::SocketAddr>();
    let text = || "localhost".to_owned();
    let all = false;
    let tcp = Wanted::Tcp {
        text: text(),
        addresses: addresses(),
        all,
    };
    let udp = Wanted::Udp {
        text: text(),
        addresses: addresses(),
    };
    let unix = Wanted::Unix {
        path: bytes(),
        mode: 0o600,
    };
    let named = Wanted::Named {
        kind: Passed::Tcp,
        name: text(),
    };
    let lengths = [tcp, udp, unix, named].map(|wanted| wanted.len());
    assert_eq!(lengths, [9 + three, 9 + three, 256, 9]);
}
