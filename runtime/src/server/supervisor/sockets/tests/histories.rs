//! Whatever the workers do.

use super::{Sockets, localhost, tcp, waiting};

use std::net::{TcpListener, TcpStream};

use proptest::prelude::*;

use crate::server::line::Role;
use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::sockets::Kernel;

#[derive(Clone, Copy, Debug)]
enum Step {
    Start(usize),
    Listen(usize),
    Unlisten(usize),
    Ready(usize),
    Leave(usize),
    End(usize),
    Park(usize),
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..3_usize;
    prop_oneof![
        at().prop_map(Step::Start),
        at().prop_map(Step::Listen),
        at().prop_map(Step::Listen),
        at().prop_map(Step::Unlisten),
        at().prop_map(Step::Ready),
        at().prop_map(Step::Leave),
        at().prop_map(Step::End),
        at().prop_map(Step::Park),
        at().prop_map(Step::Close),
    ]
}

proptest! {
    /// The steps name a slot, or the living worker at that place.
    #[test]
    fn whatever_happens_living_workers_listen(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut sockets = Sockets::new(Kernel, false);
        let mut workers: Vec<(WorkerId, Role, Vec<TcpListener>)> = Vec::new();
        let text = localhost().to_string();
        for (worker, step) in (0..).map(WorkerId).zip(steps) {
            let count = workers.len();
            match step {
                Step::Start(slot) => {
                    sockets.begin(worker, Role::Slot(slot));
                    workers.push((worker, Role::Slot(slot), Vec::new()));
                }
                Step::Park(slot) => sockets.park(Role::Slot(slot)),
                Step::Close(slot) => {
                    sockets.close(Role::Slot(slot));
                    workers.retain(|(_, of, _)| *of != Role::Slot(slot));
                }
                _ if count == 0 => {}
                Step::Listen(at) => {
                    let (worker, _, has) = &mut workers[at % count];
                    has.push(tcp(sockets.listen(*worker, &text, &[localhost()], false).unwrap()));
                }
                Step::Unlisten(at) => {
                    let (worker, _, has) = &mut workers[at % count];
                    let found = sockets.unlisten(*worker, &text);
                    prop_assert!(!found || !has.is_empty());
                    has.clear();
                }
                Step::Ready(at) => sockets.ready(workers[at % count].0),
                // And is never heard of again.
                Step::Leave(at) => {
                    let (worker, ..) = workers.remove(at % count);
                    sockets.leaving(worker);
                }
                Step::End(at) => {
                    let (worker, ..) = workers.remove(at % count);
                    sockets.ended(worker);
                }
            }
            for listener in workers.iter().flat_map(|(_, _, has)| has) {
                // Would be EINVAL on a parked one.
                waiting(listener);
                TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            }
        }
    }
}
