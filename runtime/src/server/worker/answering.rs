//! Answers those who look into a running server, on the event loop of a worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::commands;
use super::shared::Shared;
use crate::census::Seen;
use crate::server::Isolation;
use crate::server::line::{
    Connection, ContextRow, Count, Figures, LONGEST_ANSWER, Message, Query, Ran,
};
use crate::teardown;

/// How many timers' counts go into a worker's last figures, which are one message.
const LAST_COUNTS: usize = 200;

impl Shared {
    /// To be called on the event loop. What answers, if anybody may ask.
    pub(super) fn begin_to_answer(self: &Arc<Shared>) -> Option<JoinHandle<()>> {
        let queries = self.told.queries.as_ref()?.take()?;
        timers::watch();
        Some(tokio::task::spawn_local(
            Arc::clone(self).answer_queries(queries),
        ))
    }

    /// Answers what is asked, for as long as the event loop turns.
    async fn answer_queries(self: Arc<Shared>, mut queries: mpsc::UnboundedReceiver<(u64, Query)>) {
        while let Some((number, query)) = queries.recv().await {
            let answer = match query {
                Query::Figures => json(&self.figures(usize::MAX)),
                Query::Connections => json(&self.list_connections()),
                Query::Contexts => json(&self.contexts()),
                Query::Timers => json(&timers::rows()),
                Query::Timer { name, act } => json(&timers::act(&name, act)),
                Query::Commands => json(&commands::list()),
                Query::Run { name, args } => {
                    let worker = Arc::clone(&self);
                    // It takes as long as it takes, and holds up no other answer.
                    tokio::task::spawn_local(async move {
                        let mut ran = json(&commands::run(&name, args).await);
                        if ran.len() > LONGEST_ANSWER {
                            let length = ran.len();
                            ran = json(&Ran::Failed(format!("its output takes {length} bytes")));
                        }
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
            let figures = json(&self.figures(LAST_COUNTS));
            self.line.say(Message::LastFigures(figures));
        }
    }

    fn list_connections(&self) -> Vec<Connection> {
        let watched = self.watched.as_ref();
        watched.map_or_else(Vec::new, |watched| watched.connections.list())
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

    fn figures(&self, most_counts: usize) -> Figures {
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
        counts.extend(of_names.take(most_counts));
        let gauges = contexts.iter().flat_map(|row| {
            [
                Count::of_context("contexts_open", &row.name, row.open as f64),
                Count::of_context("teardowns_pending", &row.name, row.teardowns_pending as f64),
            ]
        });
        Figures {
            connections_open: open,
            tasks: metrics.num_alive_tasks() as u64,
            timers: timers::rows().len() as u64,
            contexts_open: contexts.iter().map(|row| row.open).sum(),
            teardowns_pending: contexts.iter().map(|row| row.teardowns_pending).sum(),
            gauges: gauges.collect(),
            counts,
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Of these types none can fail; whoever reads it would name what is wrong.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(feature = "timer")]
mod timers {
    use super::Count;
    use crate::server::line::{CountKey, TimerAct, TimerRow};
    use crate::timer::watched::{self, Act};

    pub(super) fn watch() {
        watched::watch();
    }

    pub(super) fn rows() -> Vec<TimerRow> {
        let rows = watched::timers().into_iter().map(|timer| {
            let counted = timer.counted;
            let ended = counted.completed + counted.failed + counted.cancelled;
            TimerRow {
                name: timer.name,
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
