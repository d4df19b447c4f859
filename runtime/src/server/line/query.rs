//! What those who look into a running server ask its workers, and what a worker tells of itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// The most bytes of an answer.
pub(crate) const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// A question to one worker. The answer is JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Query {
    /// [`Figures`].
    Figures,
    /// [`Rows`] of [`Connection`].
    Connections,
    /// [`Rows`] of [`TimerRow`].
    Timers,
    /// [`Rows`] of [`ContextRow`].
    Contexts,
    /// To all timers of this name. How many there are.
    Timer { name: String, act: TimerAct },
    /// [`Tasks`].
    Tasks,
    /// Another filter for the log. A [`Ran`].
    Log(String),
    /// [`Rows`] of [`CommandRow`].
    Commands,
    /// A command of the program's own. A [`Ran`].
    Run { name: String, args: Vec<String> },
}

impl Query {
    /// Whether the answer may take as long as it takes.
    pub(crate) fn takes_its_time(&self) -> bool {
        matches!(self, Query::Run { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TimerAct {
    Trigger,
    Pause,
    Resume,
}

/// What a worker has counted, and how it is doing now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) connections_open: u64,
    /// Tasks on its event loop that have not ended.
    pub(crate) tasks: u64,
    pub(crate) timers: u64,
    pub(crate) contexts_open: u64,
    /// Detached teardowns that have not ended.
    pub(crate) teardowns_pending: u64,
    /// How many there are now of a kind.
    pub(crate) gauges: Vec<Count>,
    /// These only ever grow.
    pub(crate) counts: Vec<Count>,
    /// What the program's own metrics are said to be, by name.
    #[serde(default)]
    pub(crate) helps: BTreeMap<String, String>,
}

impl Figures {
    /// The sum of those of that name.
    pub(crate) fn count(&self, name: &str) -> f64 {
        let named = self.counts.iter().filter(|count| count.key.name == name);
        named.map(|count| count.value).sum()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) key: CountKey,
    pub(crate) value: f64,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct CountKey {
    /// `connections`, `busy_seconds`, ..
    pub(crate) name: String,
    pub(crate) timer: Option<String>,
    pub(crate) context: Option<String>,
    pub(crate) outcome: Option<String>,
    /// Of what the program itself counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) own: Option<Own>,
}

/// A series of the program's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Own {
    pub(crate) sort: Sort,
    pub(crate) labels: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Sort {
    Counter,
    Gauge,
    /// With the bound as the last label, `le`.
    Bucket,
    Sum,
}

impl Count {
    pub(crate) fn of(name: &str, value: f64) -> Count {
        Count {
            key: CountKey {
                name: name.to_owned(),
                timer: None,
                context: None,
                outcome: None,
                own: None,
            },
            value,
        }
    }

    pub(crate) fn of_context(name: &str, context: &str, value: f64) -> Count {
        let mut count = Count::of(name, value);
        count.key.context = Some(context.to_owned());
        count
    }
}

/// A list. All of it is written as an array, so that workers and supervisors of other versions know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Rows<T> {
    All(Vec<T>),
    /// There is no room in an answer for the others.
    Part {
        rows: Vec<T>,
        left_out: u64,
    },
}

impl<T> Rows<T> {
    pub(crate) fn new(rows: Vec<T>, left_out: u64) -> Rows<T> {
        match left_out {
            0 => Rows::All(rows),
            left_out => Rows::Part { rows, left_out },
        }
    }

    /// The rows, and how many are left out.
    pub(crate) fn into_parts(self) -> (Vec<T>, u64) {
        match self {
            Rows::All(rows) => (rows, 0),
            Rows::Part { rows, left_out } => (rows, left_out),
        }
    }
}

/// An open connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connection {
    /// Where it comes from, if that has an address.
    pub(crate) peer: Option<String>,
    /// For how long it has been open, in seconds.
    pub(crate) age: f64,
}

/// The contexts of a function. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContextRow {
    pub(crate) name: String,
    /// Entered, and not yet left.
    pub(crate) open: u64,
    /// For how long the oldest of these has been open.
    pub(crate) oldest: Option<f64>,
    pub(crate) entered: u64,
    /// Detached teardowns that have not ended.
    pub(crate) teardowns_pending: u64,
    /// Setups and teardowns that ended in an error, a panic or at their limit.
    pub(crate) failed: u64,
}

/// A timer. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TimerRow {
    pub(crate) name: String,
    /// Of one that doesn't go by a calendar.
    pub(crate) interval: Option<f64>,
    /// The expression and the time zone.
    pub(crate) calendar: Option<String>,
    /// In how long it is due next; none while that isn't known, for one that is paused for example.
    pub(crate) next_due_in: Option<f64>,
    pub(crate) running: u64,
    /// For how long the oldest of these ticks has been.
    pub(crate) running_since: Option<f64>,
    /// How long the last tick took that has ended.
    pub(crate) last_length: Option<f64>,
    /// How late the last tick was that was started.
    pub(crate) lateness: Option<f64>,
    pub(crate) started: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) skipped: u64,
    pub(crate) missed: u64,
}

/// The tasks that are polled here. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tasks {
    /// The oldest first.
    pub(crate) running: Vec<TaskRow>,
    /// The newest last.
    pub(crate) ended: Vec<EndedRow>,
    /// How many others of both there is no room for in an answer.
    #[serde(default)]
    pub(crate) left_out: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskRow {
    /// `tick`, `handler` or `child`.
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) age: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EndedRow {
    pub(crate) kind: String,
    pub(crate) name: String,
    /// `completed`, `failed`, `panicked` or `cancelled`.
    pub(crate) how: String,
    /// The error, or for what reason it was cancelled.
    pub(crate) why: Option<String>,
    pub(crate) after: f64,
    pub(crate) at: SystemTime,
}

/// Something that went wrong in a worker's background.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Happened {
    /// `teardown` or `tick`.
    pub(crate) kind: String,
    pub(crate) at: SystemTime,
    pub(crate) text: String,
}

/// A command of the program's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct CommandRow {
    pub(crate) name: String,
    pub(crate) does: String,
}

/// What became of a command of the program's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ran {
    Output(String),
    Failed(String),
    /// This worker has no such command.
    Unknown,
}

/// How the questions come to a worker's event loop, if any are asked at all.
pub(crate) struct Queries {
    sender: mpsc::UnboundedSender<(u64, Query)>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<(u64, Query)>>>,
}

impl Queries {
    pub(crate) fn new() -> Queries {
        let (sender, receiver) = mpsc::unbounded_channel();
        Queries {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// Who asks bounds how many wait for their answer.
    pub(crate) fn ask(&self, number: u64, query: Query) {
        // An event loop that has ended answers nothing more.
        let _ = self.sender.send((number, query));
    }

    /// Once, for the event loop.
    pub(crate) fn take(&self) -> Option<mpsc::UnboundedReceiver<(u64, Query)>> {
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_program_s_own_commands_take_their_time() {
        let name = || "reindex".to_owned();
        let run = Query::Run {
            name: name(),
            args: Vec::new(),
        };
        assert!(run.takes_its_time());
        let act = TimerAct::Pause;
        for query in [
            Query::Figures,
            Query::Connections,
            Query::Timers,
            Query::Contexts,
            Query::Timer { name: name(), act },
            Query::Tasks,
            Query::Log("debug".to_owned()),
            Query::Commands,
        ] {
            assert!(!query.takes_its_time(), "{query:?}");
        }
    }

    #[test]
    fn a_count_is_the_sum_over_what_it_is_counted_by() {
        let figures = Figures {
            counts: vec![
                Count::of("connections", 3.0),
                Count::of_context("entered", "database", 20.0),
                Count::of_context("entered", "cache", 0.5),
            ],
            ..Figures::default()
        };
        assert_eq!(figures.count("entered"), 20.5);
        assert_eq!(figures.count("connections"), 3.0);
        assert_eq!(figures.count("busy_seconds"), 0.0);
    }

    #[test]
    fn rows_are_an_array_unless_some_are_left_out() {
        for (left_out, json) in [(0, "[1,2]"), (3, r#"{"rows":[1,2],"left_out":3}"#)] {
            let rows = Rows::new(vec![1, 2], left_out);
            assert_eq!(serde_json::to_string(&rows).unwrap(), json);
            let read: Rows<u8> = serde_json::from_str(json).unwrap();
            assert_eq!(read, rows);
            assert_eq!(read.into_parts(), (vec![1, 2], left_out));
        }
    }

    #[test]
    fn questions_wait_for_the_event_loop() {
        let queries = Queries::new();
        queries.ask(1, Query::Tasks);
        let mut asked = queries.take().unwrap();
        queries.ask(2, Query::Figures);
        assert!(queries.take().is_none(), "there is one event loop");
        assert_eq!(asked.try_recv(), Ok((1, Query::Tasks)));
        assert_eq!(asked.try_recv(), Ok((2, Query::Figures)));
        drop(asked);
        queries.ask(3, Query::Figures);
    }
}
