//! A worker's place to run, and how it gets one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

#[cfg(feature = "process")]
use super::child::Killer;
#[cfg(feature = "process")]
use super::process::{ProcessSeat, Processes};
use super::thread::{Leaving, Thread};
#[cfg(feature = "process")]
use crate::server::Signal;
use crate::server::balance::Balance;
use crate::server::job::{CarryOut, Job, MainValue, Run};
#[cfg(feature = "monitor")]
use crate::server::line::Query;
#[cfg(feature = "process")]
use crate::server::line::wire::Assignment;
use crate::server::line::{Identity, Line, Loan, Message, Role, Told, comm};
use crate::server::stop::after;
use crate::server::supervisor::inbox::Input;
use crate::server::supervisor::policy::{Image, WorkerId};
use crate::server::watcher::Watcher;
use crate::server::{Isolation, Stop, StopReason};

/// Gives workers their seats: threads, or processes if there is what starts them.
pub(crate) struct Seats {
    /// The server's name.
    server: String,
    /// How many connections a worker may have open at once.
    pub(crate) max_connections: Option<usize>,
    /// Of threads that hand connections to each other.
    pub(crate) balance: Option<Balance>,
    /// Of all threads.
    watcher: Watcher,
    /// What a thread does.
    pub(in crate::server::supervisor) carry_out: CarryOut,
    #[cfg(feature = "process")]
    processes: Option<Processes>,
    #[cfg(feature = "process")]
    stop_signals: Vec<Signal>,
    #[cfg(feature = "process")]
    upgrade_signal: Option<Signal>,
}

/// What is to be started.
pub(crate) struct Order<'a> {
    pub(crate) id: WorkerId,
    pub(crate) role: Role,
    #[cfg_attr(not(feature = "process"), expect(dead_code))]
    pub(crate) image: Image,
    pub(crate) generation: u64,
    pub(crate) count: usize,
    pub(crate) to_completion: bool,
    pub(crate) patience: Duration,
    pub(crate) job: &'a Job,
    pub(crate) main: Option<&'a MainValue>,
    pub(crate) supervisor: &'a mpsc::UnboundedSender<Input>,
    /// Whether it may be asked.
    #[cfg(feature = "monitor")]
    pub(crate) watched: bool,
}

impl Seats {
    pub(crate) fn threads(server: String, carry_out: CarryOut) -> Seats {
        Seats {
            server,
            max_connections: None,
            balance: None,
            watcher: Watcher::default(),
            carry_out,
            #[cfg(feature = "process")]
            processes: None,
            #[cfg(feature = "process")]
            stop_signals: Vec::new(),
            #[cfg(feature = "process")]
            upgrade_signal: None,
        }
    }

    /// The main context still is a thread.
    #[cfg(feature = "process")]
    pub(crate) fn processes(
        server: String,
        carry_out: CarryOut,
        processes: Processes,
        (stop_signals, upgrade_signal): (Vec<Signal>, Option<Signal>),
    ) -> Seats {
        Seats {
            server,
            max_connections: None,
            balance: None,
            watcher: Watcher::default(),
            carry_out,
            processes: Some(processes),
            stop_signals,
            upgrade_signal,
        }
    }

    /// Whether a worker can be ended whose event loop is blocked: a thread can't.
    pub(crate) fn can_kill(&self) -> bool {
        #[cfg(feature = "process")]
        return self.processes.is_some();
        #[cfg(not(feature = "process"))]
        false
    }

    /// Must be called in a runtime.
    pub(crate) fn spawn(&mut self, order: Order<'_>) -> io::Result<Seat> {
        #[cfg(feature = "process")]
        if let Some(processes) = &mut self.processes {
            let assignment = Assignment {
                server: self.server.clone(),
                role: order.role,
                count: order.count,
                generation: order.generation,
                shutdown_timeout: order.patience,
                stop_signals: self
                    .stop_signals
                    .iter()
                    .map(|signal| signal.as_raw())
                    .collect(),
                upgrade_signal: self.upgrade_signal.map(Signal::as_raw),
                run_to_completion: order.to_completion,
                max_connections: order.role.index().and(self.max_connections),
                main: order.main.is_some(),
                #[cfg(feature = "monitor")]
                watched: order.watched,
            };
            let main = order.main.and_then(|main| main.encoded.clone());
            let supervisor = order.supervisor.clone();
            return processes
                .spawn(order.id, order.image, assignment, main, supervisor)
                .map(Seat::Process);
        }
        self.spawn_thread(order).map(Seat::Thread)
    }

    fn spawn_thread(&self, order: Order<'_>) -> io::Result<Thread> {
        let id = order.id;
        let far = after(Instant::now(), Duration::MAX);
        let supervisor = order.supervisor.clone();
        let name = order.job.name(order.role);
        let balance = order.role.index().and(self.balance.as_ref());
        let balanced = balance.map(Balance::worker);
        let told = Told::default();
        #[cfg(feature = "monitor")]
        let told = if order.watched { Told::watched() } else { told };
        let run = Run {
            identity: Identity {
                index: order.role.index(),
                comm: comm(&self.server, order.role, &name),
                name,
                count: order.count,
                generation: order.generation,
                isolation: Isolation::Thread,
                to_completion: order
                    .to_completion
                    .then(|| Stop::new(StopReason::Completed, far)),
                max_connections: order.role.index().and(self.max_connections),
            },
            balanced: balanced.clone(),
            line: Line::new(move |message| {
                if let (Message::Blocked(blocked), Some(balanced)) = (&message, &balanced) {
                    balanced.blocked(*blocked);
                }
                // A supervisor that is gone has ended the server; nobody is left to be told.
                let _ = supervisor.send(Input::Worker(id, message));
            }),
            told: Arc::new(told),
            start: order.job.start(order.role, order.main),
            patience: order.patience,
            watcher: Some(self.watcher.clone()),
        };
        Thread::spawn(run, self.carry_out)
    }

    /// Lets go of the versions of the executable that are not in use.
    #[cfg_attr(not(feature = "process"), expect(unused_variables))]
    pub(crate) fn keep(&mut self, uses: impl Fn(Image) -> bool) {
        #[cfg(feature = "process")]
        if let Some(processes) = &mut self.processes {
            processes.keep(uses);
        }
    }
}

/// The supervisor's hold on a worker.
pub(crate) enum Seat {
    Thread(Thread),
    #[cfg(feature = "process")]
    Process(ProcessSeat),
}

impl Seat {
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Seat::Thread(_) => std::process::id(),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.pid,
        }
    }

    pub(crate) fn stop(&mut self, stop: Stop) {
        match self {
            Seat::Thread(thread) => thread.told.stop.set(stop),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.stop(stop),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        match self {
            Seat::Thread(thread) => thread.told.stop.get().is_some(),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.stop.is_some(),
        }
    }

    pub(crate) fn kill(&self) {
        match self {
            Seat::Thread(thread) => thread.kill(),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.kill(),
        }
    }

    /// The server is going.
    pub(crate) fn go(&self) {
        match self {
            Seat::Thread(thread) => thread.told.stop.go(),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.go(),
        }
    }

    pub(crate) fn tell(&self) {
        match self {
            Seat::Thread(thread) => thread.told.reload(),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.tell(),
        }
    }

    pub(crate) fn ping(&self, number: u64) {
        match self {
            Seat::Thread(thread) => thread.ping(number),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.ping(number),
        }
    }

    #[cfg(feature = "monitor")]
    pub(crate) fn query(&self, number: u64, query: Query) {
        match self {
            Seat::Thread(thread) => thread.told.query(number, query),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.query(number, query),
        }
    }

    /// Lends a socket to one of the worker's accept loops, or takes it back.
    pub(crate) fn loan(&self, serving: u64, loan: Loan) {
        match self {
            Seat::Thread(thread) => thread.told.loans.tell(serving, loan),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.loan(serving, loan),
        }
    }

    /// A timer with `single` may be free, which was refused.
    #[cfg(feature = "timer")]
    pub(crate) fn free(&self) {
        match self {
            Seat::Thread(thread) => thread.told.free(),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.free(),
        }
    }

    /// What would outlive the supervisor.
    #[cfg(feature = "process")]
    pub(crate) fn killer(&self) -> Option<Killer> {
        match self {
            Seat::Thread(_) => None,
            Seat::Process(process) => Some(process.killer.clone()),
        }
    }

    /// The worker has told its end.
    pub(crate) fn leave(self, leaving: &Leaving) {
        match self {
            Seat::Thread(thread) => leaving.add(thread),
            #[cfg(feature = "process")]
            Seat::Process(_) => {}
        }
    }
}
