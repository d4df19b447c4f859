//! The ends on real sockets.

use super::*;

use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::server::line::Role;
use crate::server::line::wire::message::{Answer, Assignment, encode_main};
use crate::server::line::wire::{Assembly, HANDOVER, decode_main};

fn pair() -> (SupervisorEnd, WorkerEnd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (
        SupervisorEnd::new(ours).unwrap(),
        WorkerEnd::new(theirs.into()).unwrap(),
    )
}

/// A greeting and a first message are on their way to the second end.
fn dialogues() -> (Dialogue, Dialogue) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    Dialogue::greet(&ours, &HANDOVER, &"hello").unwrap();
    (
        Dialogue::greeted(ours, &HANDOVER).unwrap(),
        Dialogue::new(theirs, &HANDOVER).unwrap(),
    )
}

fn role() -> Assignment {
    Assignment {
        server: "echo".to_owned(),
        role: Role::Slot(1),
        count: 4,
        generation: 2,
        shutdown_timeout: Duration::from_secs(25),
        upgrade_signal: None,
        stop_signals: vec![2, 15],
        run_to_completion: false,
        max_connections: None,
        main: true,
        #[cfg(feature = "monitor")]
        watched: false,
    }
}

fn message(end: &mut WorkerEnd) -> (ToWorker, Attached<OwnedFd>) {
    match end.next(None).unwrap() {
        Next::Message(message, attached) => (message, attached),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn both_ends_understand_each_other() {
    let (mut supervisor, mut worker) = pair();
    supervisor.send(&ToWorker::Hello(role()), None).unwrap();
    worker
        .sender()
        .send(&ToSupervisor::Hello { pid: 7 })
        .unwrap();
    assert_eq!(message(&mut worker).0, ToWorker::Hello(role()));
    assert_eq!(
        supervisor.next().await.unwrap(),
        Some(ToSupervisor::Hello { pid: 7 })
    );

    let past = Some(Instant::now());
    assert!(matches!(worker.next(past).unwrap(), Next::TimedOut));
    supervisor.send(&ToWorker::Tell, None).unwrap();
    assert!(!worker.is_closed().unwrap());
    drop(supervisor);
    assert!(worker.is_closed().unwrap());
    assert_eq!(message(&mut worker).0, ToWorker::Tell);
    assert!(matches!(worker.next(None).unwrap(), Next::Closed));
    worker.sender().send(&ToSupervisor::Ready).unwrap();
}

#[tokio::test]
async fn a_supervisor_and_its_successor_understand_each_other() {
    let (mut ours, mut theirs) = dialogues();
    ours.send(&1, Some(std::fs::File::open("/dev/null").unwrap().into()))
        .unwrap();
    let (hello, attached) = theirs.next::<String>().await.unwrap().unwrap();
    assert_eq!(hello, "hello");
    assert!(matches!(attached, Attached::Nothing));
    let (number, attached) = theirs.next::<u8>().await.unwrap().unwrap();
    assert_eq!(number, 1);
    assert!(matches!(attached, Attached::Descriptor(_)));
    theirs.send(&"welcome", None).unwrap();
    let (welcome, _) = ours.next::<String>().await.unwrap().unwrap();
    assert_eq!(welcome, "welcome");
    drop(theirs);
    assert!(ours.next::<String>().await.unwrap().is_none());
}

#[tokio::test]
async fn who_waits_for_room_can_send_any_number() {
    let (mut ours, mut theirs) = dialogues();
    let text = "x".repeat(60_000);
    let sending = async {
        for number in 0..100 {
            ours.room().await.unwrap();
            ours.send(&(number, &text), None).unwrap();
        }
        ours.next::<()>().await.unwrap()
    };
    let reading = async {
        theirs.next::<String>().await.unwrap().unwrap();
        for expected in 0..100 {
            let next = theirs.next::<(u32, String)>().await.unwrap();
            let ((number, read), _) = next.unwrap();
            assert_eq!(number, expected);
            assert!(read == text);
        }
        drop(theirs);
    };
    let (closed, ()) = tokio::join!(sending, reading);
    assert!(closed.is_none());
}

#[tokio::test]
async fn a_worker_that_does_not_read_is_told_of_sigusr1_once() {
    let (mut supervisor, mut worker) = pair();
    let mut pings = 0;
    while pings == 0 || supervisor.0.outbox.is_empty() {
        supervisor.send(&ToWorker::Ping(pings), None).unwrap();
        pings += 1;
    }
    for _ in 0..1000 {
        supervisor.send(&ToWorker::Tell, None).unwrap();
    }
    supervisor.send(&ToWorker::Going, None).unwrap();
    let reading = std::thread::spawn(move || {
        for expected in 0..pings {
            assert_eq!(message(&mut worker).0, ToWorker::Ping(expected));
        }
        assert_eq!(message(&mut worker).0, ToWorker::Tell);
        assert_eq!(message(&mut worker).0, ToWorker::Going);
    });
    assert_eq!(supervisor.next().await.unwrap(), None);
    reading.join().unwrap();
}

#[tokio::test]
async fn what_a_worker_said_is_read_before_its_death() {
    let (mut supervisor, worker) = pair();
    supervisor.send(&ToWorker::Ping(1), None).unwrap();
    let ended = ToSupervisor::Ended {
        failure: Some("no space".to_owned()),
        overran: false,
    };
    worker.sender().send(&ended).unwrap();
    assert!(worker.sender().finish(Instant::now()).unwrap());
    drop(worker);
    supervisor.send(&ToWorker::Ping(2), None).unwrap();
    assert_eq!(supervisor.next().await.unwrap(), Some(ended));
    assert_eq!(supervisor.next().await.unwrap(), None);
    assert_eq!(supervisor.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_large_main_value_and_sockets_arrive_while_the_supervisor_never_blocks() {
    let (mut supervisor, mut worker) = pair();
    let value: Vec<String> = (0..200_000).map(|n| n.to_string()).collect();
    supervisor.send_main(encode_main(&value).unwrap()).unwrap();
    for request in 0..200 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let answer = ToWorker::Answer {
            request,
            answer: Answer::Socket,
        };
        supervisor.send(&answer, Some(listener.into())).unwrap();
    }
    let reading = std::thread::spawn(move || {
        let (mut assembly, mut whole, mut sockets) = (Assembly::default(), None, 0);
        while whole.is_none() || sockets < 200 {
            match message(&mut worker) {
                (ToWorker::Main { bytes, last }, Attached::Nothing) => {
                    whole = assembly.add(&bytes, last).unwrap();
                }
                (ToWorker::Answer { request, .. }, Attached::Descriptor(socket)) => {
                    assert_eq!(request, sockets);
                    let flags = rustix::io::fcntl_getfd(&socket).unwrap();
                    assert!(
                        flags.contains(rustix::io::FdFlags::CLOEXEC),
                        "what the worker starts would get it"
                    );
                    assert!(std::net::TcpListener::from(socket).local_addr().is_ok());
                    sockets += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        worker.sender().send(&ToSupervisor::Ready).unwrap();
        decode_main::<Vec<String>>(&whole.unwrap()).unwrap()
    });
    assert_eq!(supervisor.next().await.unwrap(), Some(ToSupervisor::Ready));
    assert!(reading.join().unwrap() == value);
}

#[tokio::test]
async fn a_worker_that_does_not_read_fills_its_queue_only() {
    let (mut supervisor, _worker) = pair();
    let refused = (0..100_000)
        .map(ToWorker::Ping)
        .find_map(|ping| supervisor.send(&ping, None).err());
    assert!(matches!(refused, Some(WireError::QueueFull)), "{refused:?}");
}

#[tokio::test]
async fn what_a_worker_says_of_itself_finds_room_beside_its_requests() {
    let (mut supervisor, worker) = pair();
    let sender = worker.sender();
    let refused = |result| matches!(result, Err(WireError::QueueFull));
    let request = |request| ToSupervisor::Unlisten {
        request,
        text: String::new(),
    };
    let asked = (0..).find(|number| refused(sender.ask(&request(*number))));
    let said = (0..).find(|number| refused(sender.send(&ToSupervisor::Pong(*number))));
    assert!(said.unwrap() >= 100, "{said:?}");
    let ended = ToSupervisor::Ended {
        failure: None,
        overran: true,
    };
    sender.send_last(&ended).unwrap();

    let finish = std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(worker.sender().finish(deadline).unwrap());
    });
    for number in 0..asked.unwrap() {
        assert_eq!(supervisor.next().await.unwrap(), Some(request(number)));
    }
    for number in 0..said.unwrap() {
        let said = supervisor.next().await.unwrap();
        assert_eq!(said, Some(ToSupervisor::Pong(number)));
    }
    assert_eq!(supervisor.next().await.unwrap(), Some(ended));
    finish.join().unwrap();
}

#[tokio::test]
async fn a_worker_that_asks_before_it_reads_is_answered_in_its_time() {
    const REQUESTS: u64 = 5000;
    let (mut supervisor, mut worker) = pair();
    let asking = std::thread::spawn(move || {
        let sender = worker.sender();
        let read = |worker: &mut WorkerEnd, expected| match message(worker) {
            (ToWorker::Answer { request, .. }, _) => assert_eq!(request, expected),
            other => panic!("{other:?}"),
        };
        let mut answered = 0;
        for request in 0..REQUESTS {
            let text = String::new();
            let request = ToSupervisor::Unlisten { request, text };
            while sender.ask(&request).is_err() {
                read(&mut worker, answered);
                answered += 1;
            }
        }
        for answered in answered..REQUESTS {
            read(&mut worker, answered);
        }
    });
    while let Some(ToSupervisor::Unlisten { request, .. }) = supervisor.next().await.unwrap() {
        let answer = Answer::Unlistened { found: false };
        let answer = ToWorker::Answer { request, answer };
        supervisor.send(&answer, None).unwrap();
    }
    asking.join().unwrap();
}

#[tokio::test]
async fn what_a_worker_could_not_send_at_once_its_reading_thread_sends() {
    let (mut supervisor, mut worker) = pair();
    let sender = worker.sender();
    let mut sent = 0;
    while sent == 0 || sender.outbox().is_empty() {
        sender
            .send(&ToSupervisor::Reported("x".repeat(10_000)))
            .unwrap();
        sent += 1;
    }
    assert!(!sender.finish(Instant::now()).unwrap());
    let reading =
        std::thread::spawn(move || assert!(matches!(worker.next(None).unwrap(), Next::Closed)));
    for _ in 0..sent {
        assert!(matches!(
            supervisor.next().await.unwrap(),
            Some(ToSupervisor::Reported(_))
        ));
    }
    assert!(sender.finish(Instant::now()).unwrap());
    drop(supervisor);
    reading.join().unwrap();
}

/// It waits for what the supervisor says, and has to learn that there is something to send.
#[tokio::test]
async fn a_reading_thread_that_waits_is_woken_when_the_socket_is_full() {
    let (mut supervisor, mut worker) = pair();
    let sender = worker.sender();
    let (reads, reading) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        loop {
            match worker.next(None).unwrap() {
                Next::Message(ToWorker::Ping(_), _) => reads.send(()).unwrap(),
                Next::Closed => return,
                other => panic!("{other:?}"),
            }
        }
    });
    // Less than the message that follows a ping: nothing but that message can wake the thread.
    rustix::net::sockopt::set_socket_send_buffer_size(&sender.0.socket, 0).unwrap();
    let reported = ToSupervisor::Reported("x".repeat(10_000));
    for _ in 0..20 {
        supervisor.send(&ToWorker::Ping(1), None).unwrap();
        reading.recv().unwrap();
        sender.send(&reported).unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(30), supervisor.next()).await;
        assert_eq!(heard.unwrap().unwrap().as_ref(), Some(&reported));
    }
    drop(supervisor);
    thread.join().unwrap();
}

#[tokio::test]
async fn a_reading_thread_that_was_woken_sleeps_again() {
    let (mut supervisor, mut worker) = pair();
    let sender = worker.sender();
    rustix::net::sockopt::set_socket_send_buffer_size(&sender.0.socket, 0).unwrap();
    let reported = ToSupervisor::Reported("x".repeat(10_000));
    sender.send(&reported).unwrap();
    assert!(!sender.outbox().is_empty());
    drop(sender);
    let past = Instant::now();
    assert!(matches!(worker.next(Some(past)).unwrap(), Next::TimedOut));
    let reading = std::thread::spawn(move || {
        let finish = Instant::now() + Duration::from_secs(30);
        assert!(worker.sender().finish(finish).unwrap());
        assert!(matches!(worker.next(Some(past)).unwrap(), Next::TimedOut));
    });
    assert_eq!(supervisor.next().await.unwrap(), Some(reported));
    assert_eq!(supervisor.next().await.unwrap(), None);
    reading.join().unwrap();
}

#[test]
fn only_a_socket_that_is_not_ready_is_no_error() {
    ignore_would_block(Ok(1)).unwrap();
    ignore_would_block::<u8>(Err(io::ErrorKind::WouldBlock.into())).unwrap();
    let error = ignore_would_block::<u8>(Err(io::ErrorKind::NotConnected.into())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

/// In a process of its own, because the limit of open files holds for all threads.
#[test]
fn a_descriptor_without_room_is_lost_and_its_message_is_not() {
    const ALONE: &str = "AIOXIDE_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "server::line::wire::ends::tests::a_descriptor_without_room_is_lost_and_its_message_is_not";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", name])
            .env(ALONE, "1")
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let (mut supervisor, mut worker) = pair();
    let answer = ToWorker::Answer {
        request: 1,
        answer: Answer::Socket,
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    supervisor.send(&answer, Some(listener.into())).unwrap();
    supervisor.send(&ToWorker::Ping(1), None).unwrap();

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let free = std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(free),
            ..before
        },
    )
    .unwrap();
    let (received, attached) = message(&mut worker);
    assert_eq!(received, answer);
    assert!(matches!(attached, Attached::Lost));
    assert_eq!(message(&mut worker).0, ToWorker::Ping(1));
    setrlimit(Resource::Nofile, before).unwrap();
}
