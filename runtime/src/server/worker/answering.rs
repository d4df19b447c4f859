//! Answers those who look into a running server, on the event loop of a worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::commands;
use super::rows::Room;
use super::shared::Shared;
use crate::census::Seen;
use crate::server::Isolation;
use crate::server::line::{
    ContextRow, Count, EndedRow, Figures, Happened, LONGEST_ANSWER, Message, Query, Ran, Rows,
    TaskRow, Tasks, TimerRow,
};
use crate::teardown;

/// How many tasks are listed that run.
const LISTED: usize = 20_000;
/// What follows when something has been told that went wrong.
const PAUSE: Duration = Duration::from_secs(1);
/// The most bytes of a worker's last figures, for which nobody asks part by part.
const LONGEST_LAST: usize = 128 * 1024;

impl Shared {
    /// To be called on the event loop. What answers, if anybody may ask.
    pub(super) fn begin_to_answer(self: &Arc<Shared>) -> Option<JoinHandle<()>> {
        let queries = self.told.queries.as_ref()?.take()?;
        timers::watch();
        let happenings = Arc::clone(self).tell_happenings();
        let answers = Arc::clone(self).answer_queries(queries);
        Some(tokio::task::spawn_local(async {
            tokio::join!(happenings, answers);
        }))
    }

    /// Answers what is asked, for as long as the event loop turns.
    async fn answer_queries(self: Arc<Shared>, mut queries: mpsc::UnboundedReceiver<(u64, Query)>) {
        while let Some((number, query)) = queries.recv().await {
            let answer = match query {
                Query::Figures => shortened(self.figures(), LONGEST_ANSWER),
                Query::Connections => self.list_connections(),
                Query::Contexts => listed(self.contexts(), 0),
                Query::Timers => listed(self.timers(), 0),
                Query::Tasks => json(&self.list_tasks()),
                Query::Timer { name, act } => json(&timers::act(&name, act)),
                Query::Log(filter) => ran(&change_log(&filter)),
                Query::Commands => listed(commands::list(), 0),
                Query::Run { name, args } => {
                    let worker = Arc::clone(&self);
                    // It takes as long as it takes, and holds up no other answer.
                    tokio::task::spawn_local(async move {
                        let ran = ran(&commands::run(&name, args).await);
                        worker.line.say(Message::Answered(number, ran));
                    });
                    continue;
                }
            };
            self.line.say(Message::Answered(number, answer));
        }
    }

    /// Tells the last figures, if anybody has asked for some.
    pub(super) fn tell_last_figures(&self) {
        if self.watched.is_some() {
            self.tell_what_has_happened();
            let mut figures = self.figures();
            // Nothing is there any more of what there was now.
            figures.gauges.clear();
            let figures = shortened(figures, LONGEST_LAST);
            self.line.say(Message::LastFigures(figures));
        }
    }

    fn list_connections(&self) -> Vec<u8> {
        let connections = self.watched.as_ref().map(|watched| &watched.connections);
        let listed_ones = connections.map_or_else(Vec::new, |connections| connections.list());
        let open = connections.map_or(0, |connections| connections.counts().1);
        let left_out = open.saturating_sub(listed_ones.len() as u64);
        listed(listed_ones, left_out)
    }

    fn timers(&self) -> Vec<TimerRow> {
        let Some(watched) = &self.watched else {
            return Vec::new();
        };
        let (running, _) = watched.census.tasks();
        let ticks = running.iter().filter(|task| task.kind.name() == "tick");
        // The oldest of a name comes first, and stays.
        let ages: BTreeMap<String, f64> = ticks
            .rev()
            .map(|task| (task.name.to_string(), task.age().as_secs_f64()))
            .collect();
        let mut rows = timers::rows();
        for row in rows.iter_mut().filter(|row| row.running > 0) {
            row.running_since = ages.get(&row.name).copied();
        }
        rows
    }

    fn list_tasks(&self) -> Tasks {
        let Some(watched) = &self.watched else {
            return Tasks::default();
        };
        let (running, ended) = watched.census.tasks();
        let running = running.into_iter().map(|task| TaskRow {
            kind: task.kind.name().to_owned(),
            name: task.name.to_string(),
            age: task.age().as_secs_f64(),
        });
        let ended = ended.into_iter().map(|task| EndedRow {
            kind: task.kind.name().to_owned(),
            name: task.name.to_string(),
            how: task.how.name().to_owned(),
            why: task.why.map(String::from),
            after: task.after.into(),
            at: task.at,
        });
        tasks(running, ended)
    }

    /// Tells what goes wrong in the background, in one message a second at most.
    async fn tell_happenings(self: Arc<Shared>) {
        let Some(watched) = &self.watched else { return };
        loop {
            watched.census.happening().await;
            self.tell_what_has_happened();
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn tell_what_has_happened(&self) {
        let Some(watched) = &self.watched else { return };
        let (happenings, more) = watched.census.take_happenings();
        let mut told: Vec<Happened> = happenings
            .into_iter()
            .map(|happening| Happened {
                kind: happening.kind.to_owned(),
                at: happening.at,
                text: happening.text,
            })
            .collect();
        if let (Some(last), true) = (told.last(), more > 0) {
            let text = format!("{more} more have gone wrong since");
            told.push(Happened {
                text,
                ..last.clone()
            });
        }
        if !told.is_empty() {
            self.line.say(Message::Happened(json(&told)));
        }
    }

    /// By function. What is pending of a thread worker is what its event loop has to do.
    fn contexts(&self) -> Vec<ContextRow> {
        let Some(watched) = &self.watched else {
            return Vec::new();
        };
        let seen = watched.census.contexts();
        let mut pending = teardown::pending(match self.identity.isolation {
            Isolation::Process => None,
            Isolation::Thread => Some(tokio::runtime::Handle::current().id()),
        });
        let mut rows: BTreeMap<&str, ContextRow> = BTreeMap::new();
        let row = |name: &str, seen: Seen, pending: u64| ContextRow {
            name: name.to_owned(),
            open: seen.open,
            oldest: seen.oldest.map(|oldest| oldest.as_secs_f64()),
            entered: seen.entered,
            teardowns_pending: pending,
            failed: seen.failed,
        };
        for (name, seen) in seen {
            let pending = pending.remove(name).unwrap_or(0);
            rows.insert(name, row(name, seen, pending));
        }
        // Those of members of a stack, for example, are no contexts.
        for (name, pending) in pending {
            rows.insert(name, row(name, Seen::default(), pending));
        }
        rows.into_values().collect()
    }

    fn figures(&self) -> Figures {
        let metrics = tokio::runtime::Handle::current().metrics();
        let (accepted, open) = match &self.watched {
            Some(watched) => watched.connections.counts(),
            None => (0, 0),
        };
        let mut counts = vec![
            Count::of("connections", accepted as f64),
            Count::of(
                "busy_seconds",
                metrics.worker_total_busy_duration(0).as_secs_f64(),
            ),
        ];
        // Those of thread workers are their process's.
        if self.identity.isolation == Isolation::Process {
            let teardowns = teardown::stats();
            counts.push(Count::of("teardowns", teardowns.detached as f64));
            counts.push(Count::of("teardowns_failed", teardowns.failed as f64));
        }
        let contexts = self.contexts();
        let of_contexts = contexts.iter().flat_map(|row| {
            [
                Count::of_context("contexts_entered", &row.name, row.entered as f64),
                Count::of_context("contexts_failed", &row.name, row.failed as f64),
            ]
        });
        let of_names = timers::counts().into_iter().chain(of_contexts);
        counts.extend(of_names);
        let gauges = contexts.iter().flat_map(|row| {
            [
                Count::of_context("contexts_open", &row.name, row.open as f64),
                Count::of_context("teardowns_pending", &row.name, row.teardowns_pending as f64),
            ]
        });
        let mut gauges: Vec<Count> = gauges.collect();
        let mut helps = BTreeMap::new();
        if let Some(watched) = &self.watched {
            own::add(&watched.census, &mut counts, &mut gauges, &mut helps);
        }
        Figures {
            helps,
            connections_open: open,
            tasks: metrics.num_alive_tasks() as u64,
            timers: timers::rows().len() as u64,
            contexts_open: contexts.iter().map(|row| row.open).sum(),
            teardowns_pending: contexts.iter().map(|row| row.teardowns_pending).sum(),
            gauges,
            counts,
        }
    }
}

#[cfg(feature = "logging")]
fn change_log(filter: &str) -> Ran {
    match crate::logging::change(filter) {
        Ok(()) => Ran::Output(String::new()),
        Err(why) => Ran::Failed(why),
    }
}

#[cfg(not(feature = "logging"))]
fn change_log(_: &str) -> Ran {
    Ran::Failed("it is built without the feature `logging`".to_owned())
}

/// As many of these as go into an answer, from which some are left out already.
fn listed<T: Serialize>(rows: Vec<T>, left_out: u64) -> Vec<u8> {
    let all = rows.len();
    let rows = Room::of_an_answer().take(rows.into_iter());
    let left_out = left_out + (all - rows.len()) as u64;
    json(&Rows::new(rows, left_out))
}

/// The oldest of those that run and the newest of those that have ended, as many as go into an answer.
fn tasks(
    running: impl ExactSizeIterator<Item = TaskRow>,
    ended: impl ExactSizeIterator<Item = EndedRow> + DoubleEndedIterator,
) -> Tasks {
    let all = running.len() + ended.len();
    let mut room = Room::of_an_answer();
    let mut of_ended = room.half();
    let mut ended = of_ended.take(ended.rev());
    ended.reverse();
    room.regain(of_ended);
    let running = room.take(running.take(LISTED));
    Tasks {
        left_out: (all - running.len() - ended.len()) as u64,
        running,
        ended,
    }
}

/// What became of something, or that it takes more bytes than an answer may have.
fn ran(ran: &Ran) -> Vec<u8> {
    let answer = json(ran);
    match answer.len() {
        length if length > LONGEST_ANSWER => {
            json(&Ran::Failed(format!("its output takes {length} bytes")))
        }
        _ => answer,
    }
}

/// With as many counts as go into so many bytes, those of the program's own last.
fn shortened(mut figures: Figures, longest: usize) -> Vec<u8> {
    loop {
        let answer = json(&figures);
        if answer.len() <= longest {
            return answer;
        }
        let [gauges, counts] = [figures.gauges.len(), figures.counts.len()];
        figures.helps.clear();
        figures.gauges.truncate(gauges / 2);
        figures.counts.truncate(counts / 2);
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Of these types none can fail; whoever reads it would name what is wrong.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(feature = "timer")]
mod timers {
    use std::time::Duration;

    use super::Count;
    use crate::server::line::{CountKey, TimerAct, TimerRow};
    use crate::timer::watched::{self, Act};

    pub(super) fn watch() {
        watched::watch();
    }

    pub(super) fn rows() -> Vec<TimerRow> {
        let seconds = |length: Option<Duration>| length.map(|length| length.as_secs_f64());
        let rows = watched::timers().into_iter().map(|timer| {
            let counted = timer.counted;
            let ended = counted.completed + counted.failed + counted.cancelled;
            TimerRow {
                name: timer.name,
                interval: seconds(timer.details.interval),
                calendar: timer.details.calendar,
                running_since: None,
                last_length: seconds(timer.details.length),
                lateness: seconds(timer.details.lateness),
                next_due_in: timer.next_due_in.map(|due| due.as_secs_f64()),
                running: counted.started.saturating_sub(ended),
                started: counted.started,
                completed: counted.completed,
                failed: counted.failed,
                cancelled: counted.cancelled,
                skipped: counted.skipped,
                missed: counted.missed,
            }
        });
        rows.collect()
    }

    pub(super) fn counts() -> Vec<Count> {
        let counts = watched::counts().into_iter().flat_map(|(name, counted)| {
            [
                ("completed", counted.completed),
                ("failed", counted.failed),
                ("cancelled", counted.cancelled),
                ("skipped", counted.skipped),
                ("missed", counted.missed),
            ]
            .map(|(outcome, value)| Count {
                key: CountKey {
                    name: "timer_ticks".to_owned(),
                    timer: Some(name.clone()),
                    context: None,
                    own: None,
                    outcome: Some(outcome.to_owned()),
                },
                value: value as f64,
            })
        });
        counts.collect()
    }

    pub(super) fn act(name: &str, act: TimerAct) -> usize {
        let act = match act {
            TimerAct::Trigger => Act::Trigger,
            TimerAct::Pause => Act::Pause,
            TimerAct::Resume => Act::Resume,
        };
        watched::act(name, act)
    }
}

/// Without the feature `timer` there are none.
#[cfg(not(feature = "timer"))]
mod timers {
    use super::Count;
    use crate::server::line::{TimerAct, TimerRow};

    pub(super) fn watch() {}

    pub(super) fn rows() -> Vec<TimerRow> {
        Vec::new()
    }

    pub(super) fn counts() -> Vec<Count> {
        Vec::new()
    }

    pub(super) fn act(_: &str, _: TimerAct) -> usize {
        0
    }
}

/// What the program itself counts.
#[cfg(feature = "metrics")]
mod own {
    use std::collections::BTreeMap;

    use super::Count;
    use crate::census::{self, Census, OwnValue};
    use crate::server::line::{Own, Sort};

    pub(super) fn add(
        census: &Census,
        counts: &mut Vec<Count>,
        gauges: &mut Vec<Count>,
        helps: &mut BTreeMap<String, String>,
    ) {
        helps.extend(census::helps());
        for series in census.own() {
            let count = |sort: Sort, labels: Vec<(String, String)>, value: f64| {
                let mut count = Count::of(&series.name, value);
                count.key.own = Some(Own { sort, labels });
                count
            };
            let labels = series.labels.clone();
            match series.value {
                OwnValue::Counter(value) => counts.push(count(Sort::Counter, labels, value)),
                OwnValue::Gauge(value) => gauges.push(count(Sort::Gauge, labels, value)),
                OwnValue::Histogram(ref buckets, sum) => {
                    for (bound, value) in buckets {
                        let bound = match bound.is_finite() {
                            true => bound.to_string(),
                            false => "+Inf".to_owned(),
                        };
                        let mut labels = labels.clone();
                        labels.push(("le".to_owned(), bound));
                        counts.push(count(Sort::Bucket, labels, *value));
                    }
                    counts.push(count(Sort::Sum, labels, sum));
                }
            }
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod own {
    use std::collections::BTreeMap;

    use super::Count;
    use crate::census::Census;

    pub(super) fn add(
        _: &Census,
        _: &mut Vec<Count>,
        _: &mut Vec<Count>,
        _: &mut BTreeMap<String, String>,
    ) {
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn no_list_is_longer_than_an_answer_may_be() {
        let long = |number: usize| format!("{number:0>1000}");
        let running = (0..20_000).map(|number| TaskRow {
            kind: "child".to_owned(),
            name: long(number),
            age: 0.5,
        });
        let ended = (0..20_000).map(|number| EndedRow {
            kind: "child".to_owned(),
            name: long(number),
            how: "failed".to_owned(),
            why: Some("it is a matter of principle".to_owned()),
            after: 0.5,
            at: SystemTime::now(),
        });
        let told = tasks(running.clone(), ended);
        let length = json(&told).len();
        assert!((LONGEST_ANSWER - 4096..=LONGEST_ANSWER).contains(&length));
        assert!(told.running.len() > 1000 && told.ended.len() > 1000);
        let sent = told.running.len() + told.ended.len();
        assert_eq!(told.left_out, 40_000 - sent as u64);
        assert_eq!(told.running[0].name, long(0));
        assert_eq!(told.ended.last().unwrap().name, long(19_999));
        // What one kind leaves over is the other's.
        let told = tasks(running.clone(), std::iter::empty());
        assert!(told.running.len() > 3800, "{}", told.running.len());

        let answer = listed(running.collect(), 1000);
        assert!((LONGEST_ANSWER - 4096..=LONGEST_ANSWER).contains(&answer.len()));
        let rows: Rows<TaskRow> = serde_json::from_slice(&answer).unwrap();
        let (rows, left_out) = rows.into_parts();
        assert_eq!(left_out, 21_000 - rows.len() as u64);
        assert_eq!(listed(vec![1, 2], 0), b"[1,2]");
        assert!(ran(&Ran::Output("x".repeat(LONGEST_ANSWER))).len() < 1000);
    }
}
