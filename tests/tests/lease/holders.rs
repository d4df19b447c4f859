//! Processes that hold a lease, and the journal of what they do.

use std::collections::HashMap;
use std::fmt::Display;
use std::io::{BufRead, BufReader, PipeWriter, pipe};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aioxide_tests::{PATIENCE, Signal};
use rustix::process::{Pid, kill_process};

/// Whether a due time is recorded after its work or before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Delivery {
    AtLeastOnce,
    AtMostOnce,
}

/// Where holders find their lease.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    option: &'static str,
    value: String,
    name: &'static str,
    pub(crate) ttl: Duration,
    /// Timers work there, whose clock began then.
    timers_since: Option<SystemTime>,
}

impl Place {
    pub(crate) fn new(option: &'static str, value: impl Display, ttl: Duration) -> Place {
        Place {
            option,
            value: value.to_string(),
            name: "work",
            ttl,
            timers_since: None,
        }
    }

    /// The holders are timers.
    pub(crate) fn for_timers(mut self) -> Place {
        self.timers_since = Some(SystemTime::now());
        self
    }

    /// Another lease of the same store.
    #[cfg(feature = "stores")]
    pub(crate) fn named(mut self, name: &'static str) -> Place {
        self.name = name;
        self
    }
}

/// What a holder has done, or has heard from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Held,
    Start,
    Done,
    Recorded,
    Stale,
    Released,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Instant,
    pub(crate) pid: Pid,
    pub(crate) event: Event,
    /// The due time.
    pub(crate) n: u64,
    pub(crate) token: u64,
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let pid = Pid::from_raw(words.next()?.parse().ok()?)?;
    let event = match words.next()? {
        "held" => Event::Held,
        "start" => Event::Start,
        "done" => Event::Done,
        "recorded" => Event::Recorded,
        "stale" => Event::Stale,
        "released" => Event::Released,
        _ => return None,
    };
    Some(Entry {
        at: Instant::now(),
        pid,
        event,
        n: words.next()?.parse().ok()?,
        token: words.next()?.parse().ok()?,
    })
}

/// Some holders of one lease. All write to one pipe, so that the journal is in the order of what happened.
pub(crate) struct Holders {
    children: HashMap<Pid, Child>,
    delivery: Delivery,
    work: Duration,
    /// `None` once no holder is to be started any more.
    writer: Option<PipeWriter>,
    entries: Receiver<Entry>,
    journal: Vec<Entry>,
    /// How many entries `wait_for` has gone through.
    read: usize,
}

impl Holders {
    pub(crate) fn new(delivery: Delivery, work: Duration) -> Holders {
        let (reader, writer) = pipe().expect("a pipe can be made");
        let (sender, entries) = channel();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                let line = line.expect("holders write text");
                let entry = entry(&line).unwrap_or_else(|| panic!("`{line}` is no entry"));
                if sender.send(entry).is_err() {
                    return;
                }
            }
        });
        Holders {
            children: HashMap::new(),
            delivery,
            work,
            writer: Some(writer),
            entries,
            journal: Vec::new(),
            read: 0,
        }
    }

    pub(crate) fn start(&mut self, place: &Place) -> Pid {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lease_holder"));
        command.args([place.option, &place.value, "--name", place.name]);
        command.args(["--ttl", &place.ttl.as_millis().to_string()]);
        command.args(["--work", &self.work.as_millis().to_string()]);
        if let Some(since) = place.timers_since {
            let since = since.duration_since(UNIX_EPOCH).expect("that was long ago");
            command.args(["--timer", &since.as_nanos().to_string()]);
        }
        if self.delivery == Delivery::AtMostOnce {
            command.arg("--at-most-once");
        }
        let writer = self.writer.as_ref().expect("it isn't over").try_clone();
        let child = command
            .stdin(Stdio::null())
            .stdout(writer.expect("it can be cloned"))
            .spawn();
        let child = child.expect("a holder can be started");
        let pid = Pid::from_child(&child);
        self.children.insert(pid, child);
        pid
    }

    pub(crate) fn signal(&self, pid: Pid, signal: Signal) {
        assert!(self.children.contains_key(&pid));
        kill_process(pid, signal).expect("a holder can be signalled");
    }

    /// Ends it by SIGKILL; tells when.
    pub(crate) fn kill(&mut self, pid: Pid) -> Instant {
        let mut child = self.children.remove(&pid).expect("it is one of them");
        child.kill().expect("a holder can be killed");
        let killed = Instant::now();
        child.wait().expect("a holder can be waited for");
        killed
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self, pid: Pid) {
        let mut child = self.children.remove(&pid).expect("it is one of them");
        let status = child.wait().expect("a holder can be waited for");
        assert!(status.success(), "{status}");
    }

    /// Waits for an entry; each serves one call.
    pub(crate) fn wait_for(&mut self, what: &str, is_it: impl Fn(&Entry) -> bool) -> Entry {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(entry) = self.journal.get(self.read).copied() {
                self.read += 1;
                if is_it(&entry) {
                    return entry;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.entries.recv_timeout(left) {
                Ok(entry) => self.journal.push(entry),
                Err(error) => {
                    let tail = &self.journal[self.journal.len().saturating_sub(30)..];
                    panic!("{what} isn't in the journal ({error}): {tail:#?}")
                }
            }
        }
    }

    /// Waits for the start of work by a holder with a greater token.
    pub(crate) fn wait_for_next(&mut self, token: u64) -> Entry {
        self.wait_for("the start of the next holder's work", |entry| {
            entry.event == Event::Start && entry.token > token
        })
    }

    /// It has done nothing under this token since then.
    #[cfg(feature = "stores")]
    pub(crate) fn assert_idle(&self, pid: Pid, token: u64, since: Instant) {
        let done = |entry: &&Entry| entry.pid == pid && entry.token == token && entry.at > since;
        assert_eq!(
            self.journal.iter().find(done).map(|entry| entry.event),
            None
        );
    }

    /// Ends them all, and looks through what they have done.
    ///
    /// With `AtLeastOnce` no due time was passed over, with `AtMostOnce` none was started twice, and none was recorded
    /// under two tokens.
    pub(crate) fn check(mut self) {
        self.kill_all();
        self.writer = None;
        self.journal.extend(self.entries.iter());

        let mut starts: HashMap<u64, Vec<Entry>> = HashMap::new();
        let mut recorded: HashMap<u64, u64> = HashMap::new();
        let mut done = Vec::new();
        for entry in &self.journal {
            match entry.event {
                Event::Start => starts.entry(entry.n).or_default().push(*entry),
                Event::Done => done.push(entry.n),
                Event::Recorded => {
                    let by = *recorded.entry(entry.n).or_insert(entry.token);
                    assert_eq!(by, entry.token, "{} was recorded under two tokens", entry.n);
                }
                Event::Held | Event::Stale | Event::Released => {}
            }
        }
        assert!(!recorded.is_empty(), "nothing was recorded");
        match self.delivery {
            Delivery::AtLeastOnce => {
                done.sort_unstable();
                done.dedup();
                // One that comes due while others are made up for may be done before them, but isn't recorded before.
                let newest = recorded
                    .keys()
                    .copied()
                    .max()
                    .expect("something was recorded");
                done.retain(|n| *n <= newest);
                // What was due before the first timer had the lease was nobody's.
                let first = starts.values().flatten().min_by_key(|entry| entry.at);
                let first = first.expect("something was started").n;
                let all = (first..=newest).collect::<Vec<_>>();
                assert_eq!(done, all, "{:#?}", self.journal);
            }
            Delivery::AtMostOnce => {
                for (n, starts) in starts {
                    assert_eq!(starts.len(), 1, "{n} was started again: {starts:?}");
                }
            }
        }
    }

    fn kill_all(&mut self) {
        for (_, mut child) in self.children.drain() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Holders {
    /// Leaves no process behind when a test fails.
    fn drop(&mut self) {
        self.kill_all();
    }
}
