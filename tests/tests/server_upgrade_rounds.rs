//! Upgrades with random signals to either side, and kills of either, at random instants: it always ends with exactly one
//! server, or none where one that serves was asked to stop.
//!
//! A server that serves alone and is killed leaves none, too, be it a moment after an upgrade: with `upgrade = new_pid`
//! nobody starts it again, as systemd does (`systemd.rs`).
//!
//! More rounds than the usual few; and with the seed that a run tells when it fails the same signals once more, at about the
//! same instants:
//!
//! ```sh
//! AIOXIDE_TEST_ROUNDS=200 cargo test -p aioxide-tests --test server_upgrade_rounds -- --nocapture
//! AIOXIDE_TEST_SEED=42 AIOXIDE_TEST_ROUNDS=200 cargo test -p aioxide-tests --test server_upgrade_rounds
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::dice::Dice;
use aioxide_tests::replaced::{Linked, Load, hold, short};
use aioxide_tests::{Process, Signal, address_in, assert_closed, pid_in};
use rustix::process::{Pid, kill_process};

/// By when a round has come to its end, on a loaded machine. The longest one stops a server with a connection that is
/// held until its deadline.
const SETTLED: Duration = Duration::from_secs(60);

/// What an undisturbed upgrade takes, before one has been measured.
const UNDISTURBED: Duration = Duration::from_millis(300);

/// A server is replaced at most so often; the next round begins with a new one.
const LIVES: usize = 10;

#[derive(Clone, Copy, Debug)]
enum Side {
    /// What served when the round began.
    Old,
    /// The newest one.
    New,
}

#[derive(Clone, Copy)]
enum Blow {
    Signal(Side, Signal),
    /// It is suspended for a while.
    Pause(Side, Duration),
    /// One of its processes is killed: a worker.
    Worker(Side),
}

impl fmt::Debug for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blow::Signal(side, signal) => write!(f, "{} to {side:?}", name(*signal)),
            Blow::Pause(side, time) => write!(f, "{side:?} is suspended for {time:?}"),
            Blow::Worker(side) => write!(f, "SIGKILL to a worker of {side:?}"),
        }
    }
}

fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::TERM => "SIGTERM",
        Signal::KILL => "SIGKILL",
        Signal::HUP => "SIGHUP",
        Signal::USR1 => "SIGUSR1",
        Signal::USR2 => "SIGUSR2",
        Signal::TTIN => "SIGTTIN",
        Signal::TTOU => "SIGTTOU",
        _ => "another signal",
    }
}

/// What is done during one upgrade.
struct Plan {
    /// Each with its instant, from the beginning of the round.
    blows: Vec<(Duration, Blow)>,
    /// A client keeps a connection to the old workers until all blows are dealt.
    holds: bool,
}

impl Plan {
    fn roll(dice: &mut Dice, processes: bool, undisturbed: Duration) -> Plan {
        let span = undisturbed.mul_f64(1.3);
        let side = |dice: &mut Dice| dice.one_of(&[Side::Old, Side::New]);
        let mut blows = Vec::new();
        // That both are hit is the rarest.
        for _ in 0..dice.one_of(&[0, 1, 1, 1, 1, 1, 1, 2]) {
            let signal = dice.one_of(&[Signal::KILL, Signal::TERM]);
            blows.push((dice.time(span), Blow::Signal(side(dice), signal)));
        }
        for _ in 0..dice.roll(4) {
            let blow = match dice.roll(8) {
                0 => Blow::Pause(side(dice), dice.time(Duration::from_millis(200))),
                1 if processes => Blow::Worker(side(dice)),
                _ => {
                    use Signal as S;
                    let harmless = [S::HUP, S::USR1, S::USR2, S::TTIN, S::TTOU, S::TTOU];
                    Blow::Signal(side(dice), dice.one_of(&harmless))
                }
            };
            blows.push((dice.time(span), blow));
        }
        blows.sort_by_key(|(at, _)| *at);
        let holds = dice.roll(3) == 0;
        Plan { blows, holds }
    }
}

/// What the log of a round tells.
#[derive(Debug, Default)]
struct Told {
    /// The new supervisors that were started.
    begun: Vec<Pid>,
    /// Those of them that serve, as the ones before them tell.
    released: Vec<Pid>,
    /// How many of them know.
    took_over: usize,
    /// How many have found that the one before them has died.
    orphaned: usize,
    failed: usize,
    address: Option<SocketAddr>,
}

impl Told {
    fn by(log: &[String]) -> Told {
        let mut told = Told::default();
        for line in log {
            if line.contains("upgrading: the new supervisor is process") {
                told.begun.push(pid_in(line));
            } else if line.contains("upgraded: the new supervisor (process") {
                told.released.push(pid_in(line));
            } else if line.contains("upgraded: this supervisor serves in the place of the old one")
            {
                told.took_over += 1;
            } else if line.contains("has died; this one goes on in its place") {
                told.orphaned += 1;
            } else if line.contains("upgrade failed, and this supervisor serves on") {
                told.failed += 1;
            } else if line.contains("ready, listening on") {
                told.address = Some(address_in(line));
            }
        }
        told
    }
}

/// What is left of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    One,
    None,
    /// It is up to who came first.
    Either,
}

struct Server {
    linked: Linked,
    address: SocketAddr,
    serving: Pid,
    lives: usize,
}

impl Server {
    fn start(isolation: &str) -> Server {
        let args = format!(
            "--isolation {isolation} --upgrade new_pid --slow-start 50 --shutdown-timeout 5000 \
             --on-failure restart --max-restarts 100"
        );
        let mut linked = Linked::start(env!("CARGO_BIN_EXE_traffic"), &args, &[]);
        let address = linked.log().wait_until_ready();
        let serving = linked.pids[0];
        Server {
            linked,
            address,
            serving,
            lives: 0,
        }
    }
}

/// One upgrade, and what is done to it.
struct Round<'a> {
    server: &'a mut Server,
    diary: &'a mut Vec<String>,
    start: Instant,
    /// How long the log was when it began.
    mark: usize,
    /// The supervisors that were killed or asked to stop.
    hit: Vec<(Pid, Signal)>,
    /// Those that got other signals, which kill one that doesn't handle them yet, or whose workers were killed.
    touched: Vec<Pid>,
    /// Something was done that may cost connections.
    may_lose: bool,
}

impl Round<'_> {
    fn note(&mut self, what: fmt::Arguments<'_>) {
        self.diary
            .push(format!("  {:>8.1?} {what}", self.start.elapsed()));
    }

    fn told(&mut self) -> Told {
        Told::by(&self.server.linked.log().logged()[self.mark..])
    }

    fn processes(&mut self) -> Vec<Process> {
        self.server.linked.log().processes()
    }

    fn deal(&mut self, blow: Blow) {
        let (Blow::Signal(side, _) | Blow::Pause(side, _) | Blow::Worker(side)) = blow;
        let Some(pid) = self.pid_of(side) else {
            return self.note(format_args!("{blow:?}: there is none"));
        };
        let processes = self.processes();
        let mut target = processes.iter().find(|process| process.pid == pid);
        if matches!(blow, Blow::Worker(_)) {
            let supervisors = &self.server.linked.pids;
            let is_worker = |it: &&Process| it.parent == pid && !supervisors.contains(&it.pid);
            target = processes.iter().find(is_worker);
        }
        let Some(target) = target.map(|process| process.pid) else {
            return self.note(format_args!("{blow:?} ({pid}): it is gone"));
        };
        let send = |signal| {
            // It may be gone by now.
            let _ = kill_process(target, signal);
        };
        match blow {
            Blow::Signal(_, signal @ (Signal::TERM | Signal::KILL)) => {
                self.hit.push((pid, signal));
                self.may_lose |= signal == Signal::KILL;
                send(signal);
            }
            Blow::Signal(_, signal) => {
                self.touched.push(pid);
                // A worker that is scaled down takes its backlog with it.
                self.may_lose |= signal == Signal::TTOU;
                send(signal);
            }
            Blow::Pause(_, time) => {
                send(Signal::STOP);
                thread::sleep(time);
                send(Signal::CONT);
            }
            Blow::Worker(_) => {
                // What isn't known yet may be a supervisor.
                self.touched.extend([pid, target]);
                self.may_lose = true;
                send(Signal::KILL);
            }
        }
        self.note(format_args!("{blow:?} ({target})"));
    }

    /// None if there is no new one, or none that is known before it is too late.
    fn pid_of(&mut self, side: Side) -> Option<Pid> {
        let Side::New = side else {
            return Some(self.server.serving);
        };
        let deadline = Instant::now() + SETTLED;
        loop {
            let newest = self.told().begun.last().copied();
            if let Some(pid) = newest {
                let known = &mut self.server.linked.pids;
                if !known.contains(&pid) {
                    known.insert(0, pid);
                }
                return newest;
            }
            if !self.hit.is_empty() || self.processes().is_empty() {
                return None;
            }
            assert!(Instant::now() < deadline, "no upgrade begins");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The one that serves if nothing has happened to it.
    fn serving(&self, told: &Told) -> Pid {
        told.released.last().copied().unwrap_or(self.server.serving)
    }

    fn expected(&self, told: &Told) -> Left {
        let serving = self.serving(told);
        match self.hit[..] {
            [] => Left::One,
            [(pid, _)] if pid != serving => Left::One,
            [(_, Signal::TERM)] => Left::None,
            [(_, _)] => match told.begun.last() {
                // It was about to start one, or not yet.
                None => Left::Either,
                // That one may not have got ready.
                Some(heir) if self.touched.contains(heir) => Left::Either,
                // It served alone.
                Some(heir) if *heir == serving => Left::None,
                Some(_) => Left::One,
            },
            _ => Left::Either,
        }
    }

    /// Waits until nothing of the upgrade goes on any more. The one that is left, if there is one.
    fn settle(&mut self) -> (Left, Option<Pid>, Told) {
        let deadline = Instant::now() + SETTLED;
        let mut last = None;
        loop {
            let told = self.told();
            let processes = self.processes();
            let known: Vec<Pid> = told
                .begun
                .iter()
                .copied()
                .chain([self.server.serving])
                .collect();
            let is_child = |it: &Process| processes.iter().any(|other| other.pid == it.parent);
            let supervisors: Vec<Pid> = processes
                .iter()
                .filter(|it| known.contains(&it.pid) || !is_child(it))
                .map(|it| it.pid)
                .collect();
            let expected = self.expected(&told);
            let is_over = |left: Pid| {
                let serves = left == self.server.serving;
                let succeeded = if serves { 0 } else { told.took_over };
                let over = succeeded + told.orphaned + told.failed;
                over > 0 && over >= told.begun.len()
            };
            let left = match (expected, &supervisors[..]) {
                (Left::One, [pid]) if is_over(*pid) => Some(Some(*pid)),
                (Left::Either, [pid]) => Some(Some(*pid)),
                (Left::None | Left::Either, []) => Some(None),
                _ => None,
            };
            // What has just happened may have yet to be logged.
            match left {
                Some(left) if last == Some((expected, left)) => return (expected, left, told),
                _ => last = left.map(|left| (expected, left)),
            }
            assert!(
                Instant::now() < deadline,
                "expected {expected:?}, and there are {supervisors:?} of {processes:?}: {told:?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

struct Rounds {
    isolation: &'static str,
    seed: u64,
    dice: Dice,
    undisturbed: Duration,
    server: Option<Server>,
    /// What was done to the server that there is.
    diary: Vec<String>,
    /// How often what was left.
    ends: BTreeMap<&'static str, usize>,
}

impl Rounds {
    fn new(isolation: &'static str) -> Rounds {
        let random = RandomState::new().build_hasher().finish();
        let seed = aioxide_tests::asked("AIOXIDE_TEST_SEED", random);
        Rounds {
            isolation,
            seed,
            dice: Dice::new(seed),
            undisturbed: UNDISTURBED,
            server: None,
            diary: Vec::new(),
            ends: BTreeMap::new(),
        }
    }

    fn run(&mut self, number: u64) {
        let processes = self.isolation == "process";
        let plan = Plan::roll(&mut self.dice, processes, self.undisturbed);
        let mut server = self.server.take().unwrap_or_else(|| {
            self.diary.clear();
            Server::start(self.isolation)
        });
        let end = self.round(number, &mut server, plan);
        *self.ends.entry(end.0).or_default() += 1;
        match end.1 {
            Some(pid) if server.lives < LIVES => {
                server.lives += 1;
                server.serving = pid;
                self.server = Some(server);
            }
            Some(pid) => {
                let _ = kill_process(pid, Signal::TERM);
                gone(server);
            }
            None => gone(server),
        }
    }

    fn round(
        &mut self,
        number: u64,
        server: &mut Server,
        plan: Plan,
    ) -> (&'static str, Option<Pid>) {
        let (old, address) = (server.serving, server.address);
        let load = Load::of(2, Duration::from_millis(2), address);
        let held = plan.holds.then(|| hold(address));
        self.diary
            .push(format!("round {number}: the server is {old}"));
        let mut round = Round {
            mark: server.linked.log().logged().len(),
            server,
            diary: &mut self.diary,
            start: Instant::now(),
            hit: Vec::new(),
            touched: Vec::new(),
            may_lose: false,
        };
        kill_process(old, Signal::USR2).expect("it serves");
        for (at, blow) in &plan.blows {
            // An instant like any other.
            thread::sleep(at.saturating_sub(round.start.elapsed()));
            round.deal(*blow);
        }
        // SIGTTIN and SIGTTOU suspend a program that doesn't handle them yet.
        for process in round.processes() {
            let _ = kill_process(process.pid, Signal::CONT);
        }
        drop(held);
        let (expected, left, told) = round.settle();
        round.note(format_args!("left: {left:?}"));
        let serving = round.serving(&told);
        let (hit, may_lose) = (round.hit.clone(), round.may_lose);
        if plan.blows.is_empty() {
            self.undisturbed = round.start.elapsed();
        }
        let Some(pid) = left else {
            load.end();
            let stopped = hit.iter().any(|(_, signal)| *signal == Signal::TERM);
            return (
                if stopped {
                    "none: stopped"
                } else {
                    "none: killed"
                },
                None,
            );
        };
        if expected == Left::Either {
            // It may have been asked to stop already.
            load.end();
            let _ = kill_process(pid, Signal::TERM);
            return ("one or none", None);
        }
        let orphan = hit.iter().any(|(hit, _)| *hit == serving);
        if !orphan {
            assert_eq!(pid, serving, "{told:?}");
        }
        if pid != old {
            let address = round.wait_for_address();
            // A new one that was left alone before it got the sockets has others.
            assert!(orphan || address == round.server.address, "{address}");
            round.server.address = address;
        }
        short(server.address).expect("it serves");
        match may_lose {
            true => drop(load.end()),
            false => load.lost_nothing(),
        }
        if self.isolation == "thread" {
            assert_eq!(server.linked.log().processes().len(), 1);
        }
        let end = match (orphan, pid == old) {
            (true, _) => "one: an orphan",
            (_, true) => "one: the old one",
            (_, false) => "one: the new one",
        };
        (end, Some(pid))
    }
}

impl Round<'_> {
    /// Where the new one listens.
    fn wait_for_address(&mut self) -> SocketAddr {
        let deadline = Instant::now() + SETTLED;
        loop {
            if let Some(address) = self.told().address {
                return address;
            }
            assert!(Instant::now() < deadline, "it is never ready");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// With all of its processes.
#[track_caller]
fn gone(server: Server) {
    let address = server.address;
    let ended = server.linked.wait();
    assert_eq!(ended.lines("panicked at").count(), 0, "{:#?}", ended.log);
    assert_closed(address);
}

impl Drop for Rounds {
    /// For who looks for what went wrong.
    #[expect(clippy::print_stderr, reason = "what was done, and when")]
    fn drop(&mut self) {
        if thread::panicking() {
            let Rounds {
                isolation,
                seed,
                diary,
                ..
            } = self;
            eprintln!(
                "{isolation}, AIOXIDE_TEST_SEED={seed}:\n{}",
                diary.join("\n")
            );
        }
    }
}

#[expect(clippy::print_stdout, reason = "the figures, for who asks for them")]
fn it_always_ends_with_one_server_or_none(isolation: &'static str) {
    let wanted = aioxide_tests::rounds(20);
    let mut rounds = Rounds::new(isolation);
    for number in 0..wanted {
        rounds.run(number);
    }
    if let Some(server) = rounds.server.take() {
        let _ = kill_process(server.serving, Signal::TERM);
        gone(server);
    }
    println!(
        "{isolation}, {wanted} rounds, seed {}: {:?}",
        rounds.seed, rounds.ends
    );
}

aioxide_tests::under_both_isolations!(it_always_ends_with_one_server_or_none);
