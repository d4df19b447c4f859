//! What commands give: each reply is one type, for JSON and for text.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::about::{Options, Recycling};
use super::text::{Table, age, rfc3339};
use crate::server::line::{self, ContextRow, Rows, TaskRow, TimerRow};
use crate::server::supervisor::Entry;

/// Why a command is not carried out, or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Refused {
    #[serde(skip)]
    pub(super) kind: Kind,
    pub(super) error: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is no such command, or nothing of that name.
    Unknown,
    /// Its arguments are wrong.
    Wrong,
    /// It acts, and the request may only look.
    NotAllowed,
    /// Something else is being done.
    Busy,
    /// It was tried, and failed.
    Failed,
    /// The server doesn't answer, or is stopping.
    Unavailable,
}

impl Refused {
    fn new(kind: Kind, error: impl Into<String>) -> Refused {
        Refused {
            kind,
            error: error.into(),
        }
    }

    pub(super) fn unknown(error: impl Into<String>) -> Refused {
        Refused::new(Kind::Unknown, error)
    }

    pub(super) fn wrong(error: impl Into<String>) -> Refused {
        Refused::new(Kind::Wrong, error)
    }

    pub(super) fn not_allowed(error: impl Into<String>) -> Refused {
        Refused::new(Kind::NotAllowed, error)
    }

    pub(super) fn busy(error: impl Into<String>) -> Refused {
        Refused::new(Kind::Busy, error)
    }

    pub(super) fn failed(error: impl Into<String>) -> Refused {
        Refused::new(Kind::Failed, error)
    }

    pub(super) fn unavailable(error: impl Into<String>) -> Refused {
        Refused::new(Kind::Unavailable, error)
    }

    pub(super) fn text(&self) -> String {
        format!("error: {}\n", self.error)
    }
}

/// What a command gives.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Reply {
    Help(Vec<Help>),
    Server(Box<Server>),
    Workers(Vec<Worker>),
    Connections(Vec<Row<line::Connection>>),
    Timers(Vec<Row<TimerRow>>),
    Contexts(Vec<Row<ContextRow>>),
    Tasks(Tasks),
    Ran(Vec<Ran>),
    /// Prometheus' text format, also where JSON is asked for.
    Metrics {
        metrics: String,
    },
    Events(Vec<Event>),
    /// What became of something that was to be done.
    Done {
        done: String,
    },
    /// What is going to be done; the end of the connection is the end of the server.
    Accepted {
        accepted: String,
    },
}

#[derive(Debug, Serialize)]
pub(super) struct Help {
    pub(super) command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alias: Option<&'static str>,
    pub(super) arguments: &'static str,
    pub(super) does: String,
    /// Over HTTP it is a `POST`.
    pub(super) acts: bool,
}

/// Times are in seconds.
#[derive(Debug, Serialize)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) version: &'static str,
    pub(super) executable: String,
    pub(super) started: String,
    pub(super) uptime: f64,
    pub(super) state: &'static str,
    pub(super) isolation: String,
    pub(super) workers: Numbers,
    pub(super) roll: Option<Roll>,
    pub(super) addresses: Vec<Address>,
    pub(super) options: Options,
}

#[derive(Debug, Serialize)]
pub(super) struct Numbers {
    pub(super) ready: usize,
    pub(super) wanted: usize,
    pub(super) most: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Roll {
    /// `all`, or who is restarted alone.
    pub(super) of: String,
    pub(super) remaining: usize,
    pub(super) draining: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Address {
    pub(super) address: String,
    pub(super) sockets: Vec<Held>,
}

#[derive(Debug, Serialize)]
pub(super) struct Held {
    pub(super) of: String,
    pub(super) state: String,
}

/// A worker or an extra, or the place of one that is vacant. Times are in seconds, sizes in bytes.
#[derive(Clone, Debug, Serialize, Default)]
pub(super) struct Worker {
    /// `worker 3`, or the name of the extra.
    pub(super) name: String,
    /// None for an extra.
    pub(super) index: Option<usize>,
    /// None where there is none.
    pub(super) pid: Option<u32>,
    pub(super) generation: Option<u64>,
    pub(super) image: Option<u64>,
    /// `starting`, `ready`, `blocked`, `draining`, `killed`; without a worker `backoff`, `waiting` or `vacant`.
    pub(super) state: &'static str,
    /// For how long.
    pub(super) since: Option<f64>,
    /// In how long a vacant place is filled again.
    pub(super) retry_in: Option<f64>,
    /// It has answered now; otherwise the figures are those that it had.
    pub(super) answers: bool,
    /// It has an event loop that can answer.
    #[serde(skip)]
    pub(super) asked: bool,
    pub(super) connections_open: Option<u64>,
    /// Of this worker and those that it has succeeded in the slot.
    pub(super) connections_total: Option<u64>,
    /// Of the time since it was looked at before, from 0 to 100.
    pub(super) busy_percent: Option<f64>,
    pub(super) loop_lag: Option<f64>,
    pub(super) tasks: Option<u64>,
    pub(super) timers: Option<u64>,
    pub(super) contexts_open: Option<u64>,
    pub(super) teardowns_pending: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) restarts: u64,
    pub(super) failures: u64,
    pub(super) last_failure: Option<String>,
    pub(super) last_failure_at: Option<String>,
}

/// A row of a worker's. Times are in seconds.
#[derive(Debug, Serialize)]
pub(super) struct Row<T> {
    pub(super) worker: String,
    #[serde(flatten)]
    pub(super) row: T,
    /// Only in one that stands for those that are missing, in which nothing else is told. It has all fields, for those
    /// who don't know of it.
    #[serde(flatten)]
    missing: Option<Missing>,
}

/// What is missing of a worker's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Missing {
    /// All of them are, of one that doesn't answer.
    answers: bool,
    /// So many there is no room for.
    left_out: u64,
}

impl Missing {
    /// If there is something.
    fn new(answers: bool, left_out: u64) -> Option<Missing> {
        (!answers || left_out > 0).then_some(Missing { answers, left_out })
    }

    fn text(self, worker: &str) -> String {
        match self.answers {
            true => format!("{worker}: {} more are not listed\n", self.left_out),
            false => format!("{worker}: it does not answer\n"),
        }
    }
}

/// What workers have answered; what is missing comes last.
pub(super) fn rows<T: Default>(
    told: impl Iterator<Item = (String, Option<Rows<T>>)>,
) -> Vec<Row<T>> {
    let (mut rows, mut last) = (Vec::new(), Vec::new());
    for (worker, told) in told {
        let answers = told.is_some();
        let (told, left_out) = told.map_or_else(Default::default, Rows::into_parts);
        rows.extend(told.into_iter().map(|row| Row {
            worker: worker.clone(),
            row,
            missing: None,
        }));
        last.extend(Missing::new(answers, left_out).map(|missing| Row {
            worker,
            row: T::default(),
            missing: Some(missing),
        }));
    }
    rows.append(&mut last);
    rows
}

/// Those in which something is told.
fn told<T>(rows: &[Row<T>]) -> impl Iterator<Item = &Row<T>> {
    rows.iter().filter(|row| row.missing.is_none())
}

/// What is missing, one a line.
fn text_of_missing<T>(rows: &[Row<T>]) -> String {
    let missing = rows
        .iter()
        .filter_map(|row| Some(row.missing?.text(&row.worker)));
    missing.collect()
}

/// The tasks of all workers. Times are in seconds.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tasks {
    /// The oldest first.
    running: Vec<Task>,
    /// The last ones, the newest last.
    ended: Vec<Ended>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<MissingOf>,
}

#[derive(Debug, Serialize)]
struct MissingOf {
    worker: String,
    #[serde(flatten)]
    missing: Missing,
}

#[derive(Debug, Serialize)]
struct Task {
    worker: String,
    #[serde(flatten)]
    task: TaskRow,
}

#[derive(Debug, Serialize)]
struct Ended {
    worker: String,
    kind: String,
    name: String,
    how: String,
    why: Option<String>,
    after: f64,
    time: String,
}

impl Tasks {
    /// None is told by a worker that doesn't answer.
    pub(super) fn add(&mut self, worker: &str, told: Option<line::Tasks>) {
        let answers = told.is_some();
        let told = told.unwrap_or_default();
        let missing = Missing::new(answers, told.left_out);
        self.missing.extend(missing.map(|missing| MissingOf {
            worker: worker.to_owned(),
            missing,
        }));
        let running = told.running.into_iter().map(|task| Task {
            worker: worker.to_owned(),
            task,
        });
        self.running.extend(running);
        let ended = told.ended.into_iter().map(|task| Ended {
            worker: worker.to_owned(),
            kind: task.kind,
            name: task.name,
            how: task.how,
            why: task.why,
            after: task.after,
            time: rfc3339(task.at),
        });
        self.ended.extend(ended);
    }

    pub(super) fn sort(&mut self) {
        self.running
            .sort_by(|a, b| b.task.age.total_cmp(&a.task.age));
        self.ended.sort_by(|a, b| a.time.cmp(&b.time));
    }

    fn text(&self) -> String {
        let mut running = Table::new(&["WORKER", "TASK", "NAME", "AGE"]);
        for Task { worker, task } in &self.running {
            let age = age(Duration::from_secs_f64(task.age));
            running.row([worker.clone(), task.kind.clone(), task.name.clone(), age]);
        }
        let mut ended = Table::new(&["WORKER", "TASK", "NAME", "ENDED", "HOW", "AFTER", "WHY"]);
        for task in &self.ended {
            ended.row([
                task.worker.clone(),
                task.kind.clone(),
                task.name.clone(),
                task.time.clone(),
                task.how.clone(),
                format!("{:.3}s", task.after),
                task.why.clone().unwrap_or_default(),
            ]);
        }
        let missing = self.missing.iter();
        let missing: String = missing.map(|of| of.missing.text(&of.worker)).collect();
        format!("{running}\n{ended}{missing}")
    }
}

/// What a command of the program's own gave in a worker.
#[derive(Debug, Serialize)]
pub(super) struct Ran {
    pub(super) worker: String,
    pub(super) output: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Event {
    pub(super) number: u64,
    pub(super) time: String,
    pub(super) event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) worker: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<u32>,
    pub(super) text: String,
}

impl From<&Entry> for Event {
    fn from(entry: &Entry) -> Event {
        Event {
            number: entry.number,
            time: rfc3339(entry.at),
            event: entry.kind,
            worker: entry.worker,
            role: entry.role.clone(),
            pid: entry.pid,
            text: entry.text.clone(),
        }
    }
}

impl Event {
    pub(super) fn text(&self) -> String {
        let pid = self
            .pid
            .map_or(String::new(), |pid| format!(" (pid {pid})"));
        format!("{}  {:<9} {}{pid}\n", self.time, self.event, self.text)
    }
}

impl Reply {
    pub(super) fn json(&self) -> Result<String, Refused> {
        let json = serde_json::to_string(self);
        json.map_err(|error| Refused::failed(format!("the reply can't be written: {error}")))
    }

    pub(super) fn text(&self) -> String {
        match self {
            Reply::Help(commands) => {
                let mut table = Table::new(&["COMMAND", ""]);
                for Help {
                    command,
                    alias,
                    arguments,
                    does,
                    ..
                } in commands
                {
                    let alias = alias.map_or(String::new(), |alias| format!(" ({alias})"));
                    let command = format!("{command} {arguments}");
                    table.row([format!("{}{alias}", command.trim_end()), does.clone()]);
                }
                table.to_string()
            }
            Reply::Server(server) => server.text(),
            Reply::Workers(workers) => text_of_workers(workers),
            Reply::Connections(connections) => {
                let mut table = Table::new(&["WORKER", "PEER", "OPEN FOR"]);
                for Row { worker, row, .. } in told(connections) {
                    let peer = row.peer.as_deref().unwrap_or("-").to_owned();
                    let open = age(Duration::from_secs_f64(row.age));
                    table.row([worker.clone(), peer, open]);
                }
                format!("{table}{}", text_of_missing(connections))
            }
            Reply::Timers(timers) => text_of_timers(timers),
            Reply::Contexts(contexts) => text_of_contexts(contexts),
            Reply::Tasks(tasks) => tasks.text(),
            Reply::Ran(ran) => match &ran[..] {
                [Ran { output, .. }] => with_end(output),
                ran => {
                    let each = ran
                        .iter()
                        .map(|ran| with_end(&format!("{}: {}", ran.worker, ran.output)));
                    each.collect()
                }
            },
            Reply::Metrics { metrics } => metrics.clone(),
            Reply::Events(events) => events.iter().map(Event::text).collect(),
            Reply::Done { done: text } | Reply::Accepted { accepted: text } => format!("{text}\n"),
        }
    }
}

impl Server {
    fn text(&self) -> String {
        let mut table = Table::new(&[]);
        let mut line = |what: &str, text: String| table.row([what.to_owned(), text]);
        let Numbers {
            ready,
            wanted,
            most,
        } = self.workers;
        line("name", self.name.clone());
        line("pid", self.pid.to_string());
        line("executable", self.executable.clone());
        line("aioxide", self.version.to_owned());
        let up = age(Duration::from_secs_f64(self.uptime));
        line("started", format!("{} ({up} ago)", self.started));
        line("state", self.state.to_owned());
        line("isolation", self.isolation.clone());
        line(
            "workers",
            format!("{ready} ready of {wanted}, at most {most}"),
        );
        if let Some(Roll {
            of,
            remaining,
            draining,
        }) = &self.roll
        {
            line(
                "roll",
                format!("{of}, {remaining} to go, {draining} draining"),
            );
        }
        for Address { address, sockets } in &self.addresses {
            let sockets = sockets
                .iter()
                .map(|held| format!("{} {}", held.of, held.state));
            line(
                "listens",
                format!("{address} ({})", sockets.collect::<Vec<_>>().join(", ")),
            );
        }
        let Options {
            stop_signals,
            shutdown_timeout,
            drain_delay,
            start_timeout,
            on_failure,
            max_restarts,
            restart_window,
            hang_timeout,
            roll_overlap,
            max_connections,
            balance,
            share_port,
            recycle,
            upgrade,
            upgrade_signal,
            health,
        } = &self.options;
        let number = |number: &Option<usize>, none: &str| {
            number.map_or(none.to_owned(), |number| number.to_string())
        };
        line("stop_signals", stop_signals.join(", "));
        line("shutdown_timeout", format!("{shutdown_timeout} s"));
        line("drain_delay", format!("{drain_delay} s"));
        line("start_timeout", format!("{start_timeout} s"));
        line("on_failure", on_failure.clone());
        line(
            "max_restarts",
            format!("{max_restarts} in {restart_window} s"),
        );
        line(
            "hang_timeout",
            hang_timeout.map_or("off".to_owned(), |after| format!("{after} s")),
        );
        line("roll_overlap", number(roll_overlap, "all"));
        line("max_connections", number(max_connections, "off"));
        line("balance", balance.to_string());
        line("share_port", share_port.to_string());
        line("recycle", recycle.text());
        line("upgrade", upgrade.clone());
        line(
            "upgrade_signal",
            upgrade_signal.clone().unwrap_or("none".to_owned()),
        );
        line("health", health.clone().unwrap_or("off".to_owned()));
        table.to_string()
    }
}

impl Recycling {
    fn text(&self) -> String {
        let limits = [
            self.after.map(|after| format!("after {after} s")),
            self.connections
                .map(|number| format!("after {number} connections")),
            self.memory.map(|bytes| format!("over {bytes} bytes")),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        match limits.is_empty() {
            true => "off".to_owned(),
            false => limits.join(", "),
        }
    }
}

fn with_end(text: &str) -> String {
    match text {
        "" => String::new(),
        text if text.ends_with('\n') => text.to_owned(),
        text => format!("{text}\n"),
    }
}

fn text_of_timers(timers: &[Row<TimerRow>]) -> String {
    let mut table = Table::new(&[
        "WORKER",
        "TIMER",
        "EVERY",
        "DUE IN",
        "RUNNING",
        "SINCE",
        "LAST TOOK",
        "LATE",
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "SKIPPED",
        "MISSED",
    ]);
    for Row {
        worker, row: timer, ..
    } in told(timers)
    {
        let due = timer
            .next_due_in
            .map_or("-".to_owned(), |due| format!("{due:.3}s"));
        let every = match (&timer.calendar, timer.interval) {
            (Some(calendar), _) => calendar.clone(),
            (None, Some(interval)) => format!("{:?}", Duration::from_secs_f64(interval)),
            (None, None) => "-".to_owned(),
        };
        let length = |seconds: Option<f64>| match seconds {
            Some(seconds) => format!("{:.1}ms", seconds * 1e3),
            None => "-".to_owned(),
        };
        let since = timer.running_since.map(Duration::from_secs_f64).map(age);
        let counts = [
            timer.completed,
            timer.failed,
            timer.cancelled,
            timer.skipped,
            timer.missed,
        ];
        let cells = [
            worker.clone(),
            timer.name.clone(),
            every,
            due,
            timer.running.to_string(),
            since.unwrap_or_else(|| "-".to_owned()),
            length(timer.last_length),
            length(timer.lateness),
        ];
        table.row(
            cells
                .into_iter()
                .chain(counts.map(|count| count.to_string())),
        );
    }
    format!("{table}{}", text_of_missing(timers))
}

fn text_of_contexts(contexts: &[Row<ContextRow>]) -> String {
    let mut table = Table::new(&[
        "WORKER",
        "CONTEXT",
        "OPEN",
        "OLDEST",
        "ENTERED",
        "TEARDOWNS",
        "FAILED",
    ]);
    for Row {
        worker,
        row: context,
        ..
    } in told(contexts)
    {
        let oldest = context.oldest.map(Duration::from_secs_f64).map(age);
        table.row([
            worker.clone(),
            context.name.clone(),
            context.open.to_string(),
            oldest.unwrap_or_else(|| "-".to_owned()),
            context.entered.to_string(),
            context.teardowns_pending.to_string(),
            context.failed.to_string(),
        ]);
    }
    format!("{table}{}", text_of_missing(contexts))
}

fn text_of_workers(workers: &[Worker]) -> String {
    let mut table = Table::new(&[
        "WORKER",
        "PID",
        "GEN",
        "IMAGE",
        "STATE",
        "SINCE",
        "OPEN",
        "TOTAL",
        "BUSY",
        "LAG",
        "TASKS",
        "TIMERS",
        "CONTEXTS",
        "TEARDOWNS",
        "MEMORY",
        "RESTARTS",
        "LAST FAILURE",
    ]);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for worker in workers {
        let silent = worker.asked && !worker.answers && worker.state != "blocked";
        let state = match worker.retry_in {
            Some(retry) => format!("{} {retry:.1}s", worker.state),
            None if silent => format!("{}, no answer", worker.state),
            None => worker.state.to_owned(),
        };
        table.row([
            worker.name.clone(),
            or_none(worker.pid.map(|pid| pid.to_string())),
            or_none(worker.generation.map(|generation| generation.to_string())),
            or_none(worker.image.map(|image| image.to_string())),
            state,
            or_none(
                worker
                    .since
                    .map(|since| age(Duration::from_secs_f64(since))),
            ),
            or_none(worker.connections_open.map(|open| open.to_string())),
            or_none(worker.connections_total.map(|total| total.to_string())),
            or_none(worker.busy_percent.map(|busy| format!("{busy:.0}%"))),
            or_none(worker.loop_lag.map(|lag| format!("{:.1}ms", lag * 1e3))),
            or_none(worker.tasks.map(|tasks| tasks.to_string())),
            or_none(worker.timers.map(|timers| timers.to_string())),
            or_none(worker.contexts_open.map(|open| open.to_string())),
            or_none(worker.teardowns_pending.map(|pending| pending.to_string())),
            or_none(
                worker
                    .memory
                    .map(|bytes| format!("{:.1}M", bytes as f64 / 1048576.0)),
            ),
            worker.restarts.to_string(),
            or_none(worker.last_failure.clone()),
        ]);
    }
    table.to_string()
}

pub(super) fn at(time: SystemTime) -> String {
    rfc3339(time)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn connection(peer: &str) -> line::Connection {
        line::Connection {
            peer: Some(peer.to_owned()),
            age: 2.0,
        }
    }

    #[test]
    fn what_is_missing_of_a_list_is_told_last() {
        let some = Rows::new(vec![connection("one"), connection("two")], 5);
        let told = [
            ("worker 0", None),
            ("worker 1", Some(some)),
            ("worker 2", Some(Rows::new(vec![connection("three")], 0))),
        ];
        let told = told.map(|(worker, told)| (worker.to_owned(), told));
        let reply = Reply::Connections(rows(told.into_iter()));
        assert_eq!(
            serde_json::to_value(&reply).unwrap(),
            json!([
                {"worker": "worker 1", "peer": "one", "age": 2.0},
                {"worker": "worker 1", "peer": "two", "age": 2.0},
                {"worker": "worker 2", "peer": "three", "age": 2.0},
                {"worker": "worker 0", "peer": null, "age": 0.0, "answers": false, "left_out": 0},
                {"worker": "worker 1", "peer": null, "age": 0.0, "answers": true, "left_out": 5},
            ])
        );
        let text = reply.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[4..],
            [
                "worker 0: it does not answer",
                "worker 1: 5 more are not listed"
            ]
        );
    }

    #[test]
    fn what_is_missing_of_tasks_is_told() {
        let mut tasks = Tasks::default();
        tasks.add("worker 0", Some(line::Tasks::default()));
        let reply = serde_json::to_value(&tasks).unwrap();
        assert_eq!(reply, json!({"running": [], "ended": []}));
        tasks.add("worker 1", None);
        let reply = serde_json::to_value(&tasks).unwrap();
        assert_eq!(
            reply["missing"],
            json!([{"worker": "worker 1", "answers": false, "left_out": 0}])
        );
        assert!(tasks.text().ends_with("worker 1: it does not answer\n"));
    }

    #[test]
    fn a_worker_that_does_not_answer_is_marked() {
        let state = |asked, answers, state| {
            let worker = Worker {
                state,
                asked,
                answers,
                ..Worker::default()
            };
            let text = text_of_workers(&[worker]);
            text.contains("ready, no answer")
        };
        assert!(state(true, false, "ready"));
        assert!(!state(true, true, "ready"));
        // One without an event loop.
        assert!(!state(false, false, "ready"));
        assert!(!state(true, false, "blocked"));
    }
}
