//! Asks the workers, and keeps what they have told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::ledger::Ledger;
use crate::server::line::{CountKey, Figures, Query, Role};
use crate::server::supervisor::{Last, View, Watcher, WorkerId, WorkerView};

/// What a worker gets to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Over how long, at least, it is measured how busy an event loop is.
const SPAN: Duration = Duration::from_millis(500);
/// How many long answers may come in at once.
const LONG: usize = 4;

/// What the workers have told.
pub(super) struct Told {
    watcher: Watcher,
    ledger: RefCell<Ledger>,
    busy: RefCell<BTreeMap<WorkerId, Busy>>,
    long: Semaphore,
}

/// How busy an event loop was when it was looked at last.
struct Busy {
    at: Instant,
    seconds: f64,
    share: Option<f64>,
}

/// What is known of a living worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) figures: Option<Figures>,
    /// Of the time between the last two looks, from 0 to 1.
    pub(super) busy: Option<f64>,
    /// It has answered now; otherwise these are the figures that it had.
    pub(super) answers: bool,
}

impl Told {
    pub(super) fn new(watcher: Watcher) -> Told {
        Told {
            watcher,
            ledger: RefCell::default(),
            busy: RefCell::default(),
            long: Semaphore::new(LONG),
        }
    }

    /// Takes the last figures of workers that end.
    pub(super) async fn listen(&self, mut lasts: mpsc::UnboundedReceiver<Last>) {
        while let Some((id, role, figures)) = lasts.recv().await {
            let figures = serde_json::from_slice(&figures).ok();
            let last = figures.map(|figures| (role, figures));
            self.ledger.borrow_mut().ended(id, last);
        }
    }

    /// Asks all workers for their figures.
    pub(super) async fn look(&self, view: &View) -> BTreeMap<WorkerId, Known> {
        let told: Vec<(&WorkerView, Option<Figures>)> =
            self.ask(view, |_| true, &Query::Figures).await;
        let living: BTreeSet<WorkerId> = view.workers.iter().map(|worker| worker.id).collect();
        let mut ledger = self.ledger.borrow_mut();
        let mut busy = self.busy.borrow_mut();
        busy.retain(|id, _| living.contains(id));
        let mut answering = BTreeSet::new();
        for (worker, figures) in told {
            if let Some(figures) = figures {
                let seconds = figures.count("busy_seconds");
                measure(&mut busy, worker.id, Instant::now(), seconds);
                ledger.seen(worker.id, worker.role, figures);
                answering.insert(worker.id);
            }
        }
        ledger.settle(&living);
        let known = living.into_iter().map(|id| {
            let known = Known {
                figures: ledger.figures(id).cloned(),
                busy: busy.get(&id).and_then(|busy| busy.share),
                answers: answering.contains(&id),
            };
            (id, known)
        });
        known.collect()
    }

    pub(super) fn totals(&self) -> BTreeMap<(CountKey, Role), f64> {
        self.ledger.borrow().totals()
    }

    /// As [`ask`](Told::ask), where the answers may be long.
    pub(super) async fn ask_at_length<'v, T: DeserializeOwned>(
        &self,
        view: &'v View,
        of: impl Fn(&WorkerView) -> bool,
        query: &Query,
    ) -> Vec<(&'v WorkerView, Option<T>)> {
        // It is never closed.
        let _turn = self.long.acquire().await;
        self.ask(view, of, query).await
    }

    /// Asks workers all at once; none where one doesn't answer in time. One that has ended meanwhile is left out, unless
    /// it was to run something.
    pub(super) async fn ask<'v, T: DeserializeOwned>(
        &self,
        view: &'v View,
        of: impl Fn(&WorkerView) -> bool,
        query: &Query,
    ) -> Vec<(&'v WorkerView, Option<T>)> {
        let workers = view
            .workers
            .iter()
            .filter(|worker| worker.turning && of(worker));
        let asked = workers.map(async |worker| {
            // Of one that is known to be blocked no answer is waited for.
            if worker.blocked {
                return Some((worker, None));
            }
            let asked = self.watcher.query(worker.id, query.clone());
            let answered = match query.takes_its_time() {
                true => asked.await,
                false => match timeout(ANSWER, asked).await {
                    Ok(answered) => Some(answered?),
                    Err(_) => None,
                },
            };
            let answer = answered.and_then(Result::ok);
            Some((
                worker,
                answer.and_then(|answer| serde_json::from_slice(&answer).ok()),
            ))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

fn measure(busy: &mut BTreeMap<WorkerId, Busy>, id: WorkerId, now: Instant, seconds: f64) {
    let first = Busy {
        at: now,
        seconds,
        share: None,
    };
    let last = busy.entry(id).or_insert(first);
    let span = now.saturating_duration_since(last.at);
    if span >= SPAN {
        let share = (seconds - last.seconds) / span.as_secs_f64();
        *last = Busy {
            at: now,
            seconds,
            share: Some(share.clamp(0.0, 1.0)),
        };
    }
}
