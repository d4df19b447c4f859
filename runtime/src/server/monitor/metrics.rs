//! The figures of a server in Prometheus' text format.

use std::collections::BTreeMap;
use std::ops::Add;

use super::about::About;
use super::figures::Known;
use super::own;
use super::page::Page;
use crate::server::line::{CountKey, Role};
use crate::server::supervisor::{View, WorkerId, WorkerView};
use crate::teardown::Stats;

/// What is known of a server at one moment.
pub(super) struct Sample<'a> {
    pub(super) about: &'a About,
    pub(super) view: &'a View,
    pub(super) ready: usize,
    pub(super) known: &'a BTreeMap<WorkerId, Known>,
    pub(super) totals: &'a BTreeMap<(CountKey, Role), f64>,
    /// Resident sets of process workers.
    pub(super) memory: &'a Vec<(Role, u64)>,
    /// That of the supervisor's process.
    pub(super) own: Option<u64>,
    /// Those of that process, if the workers are its threads.
    pub(super) teardowns: Option<Stats>,
}

/// What workers count, and how it is called here.
const COUNTS: &[(&str, &str, &str)] = &[
    (
        "connections",
        "aioxide_connections_total",
        "Connections that were accepted.",
    ),
    (
        "busy_seconds",
        "aioxide_busy_seconds_total",
        "How long event loops were busy.",
    ),
    (
        "teardowns",
        "aioxide_teardowns_total",
        "Teardowns that were detached.",
    ),
    (
        "teardowns_failed",
        "aioxide_teardowns_failed_total",
        "Detached teardowns that failed.",
    ),
    (
        "timer_ticks",
        "aioxide_timer_ticks_total",
        "Due times of timers, by what became of them.",
    ),
    (
        "contexts_entered",
        "aioxide_contexts_entered_total",
        "Contexts that were entered, by function.",
    ),
    (
        "contexts_failed",
        "aioxide_contexts_failed_total",
        "Setups and teardowns of contexts that failed, by function.",
    ),
];

/// What workers have now, and how it is called here.
const GAUGES: &[(&str, &str, &str)] = &[
    (
        "contexts_open",
        "aioxide_contexts_open",
        "Contexts that are open, by function.",
    ),
    (
        "teardowns_pending",
        "aioxide_teardowns_pending",
        "Detached teardowns that have not ended, by function.",
    ),
];

pub(super) fn text(sample: &Sample<'_>) -> String {
    let Sample { about, view, .. } = sample;
    let mut page = Page::default();
    let labels = [
        ("name", about.name.as_str()),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    page.family(
        "aioxide_info",
        "The server, by name and version of aioxide.",
        "gauge",
    );
    page.sample("aioxide_info", &labels, 1);
    let of_server = [
        (
            "aioxide_workers_wanted",
            "How many workers there are to be.",
            view.wanted,
        ),
        (
            "aioxide_workers_ready",
            "How many workers are ready.",
            sample.ready,
        ),
    ];
    for (name, help, value) in of_server {
        page.family(name, help, "gauge");
        page.sample(name, &[], value);
    }
    if let Some(bytes) = sample.own {
        let name = "aioxide_memory_bytes";
        page.family(name, "Resident set of the server's first process.", "gauge");
        page.sample(name, &[], bytes);
    }

    let name_of = |role: Role| {
        let place = view.places.iter().find(|place| place.role == role);
        place.map_or_else(|| "?".to_owned(), |place| place.name.clone())
    };
    let worker = |role: Role| match role {
        Role::Slot(slot) => slot.to_string(),
        extra @ Role::Extra(_) => name_of(extra),
    };
    let name = "aioxide_worker_restarts_total";
    page.family(
        name,
        "How often a worker was started after the first time.",
        "counter",
    );
    for place in &view.places {
        page.sample(name, &[("worker", &worker(place.role))], place.restarts);
    }
    let name = "aioxide_worker_failures_total";
    page.family(name, "How often a worker failed.", "counter");
    for place in &view.places {
        page.sample(name, &[("worker", &worker(place.role))], place.failures);
    }

    // Of a slot that is being replaced both of its workers count.
    let sums = |value: &dyn Fn(&WorkerView) -> Option<f64>, both: fn(f64, f64) -> f64| {
        let mut sums = BTreeMap::<Role, f64>::new();
        for worker in &view.workers {
            if let Some(value) = value(worker) {
                let sum = sums.entry(worker.role).or_default();
                *sum = both(*sum, value);
            }
        }
        sums
    };
    let known = |worker: &WorkerView| sample.known.get(&worker.id)?.figures.as_ref();
    let gauges = [
        (
            "aioxide_connections_open",
            "Connections that are open.",
            sums(
                &|worker| Some(known(worker)?.connections_open as f64),
                f64::add,
            ),
        ),
        (
            "aioxide_tasks",
            "Tasks on the event loop.",
            sums(&|worker| Some(known(worker)?.tasks as f64), f64::add),
        ),
        (
            "aioxide_timers",
            "Timers that run.",
            sums(&|worker| Some(known(worker)?.timers as f64), f64::add),
        ),
        (
            "aioxide_loop_lag_seconds",
            "How long the last question to the event loop took.",
            sums(&|worker| Some(worker.lag?.as_secs_f64()), f64::max),
        ),
    ];
    for (name, help, values) in gauges {
        page.family(name, help, "gauge");
        for (role, value) in values {
            page.sample(name, &[("worker", &worker(role))], value);
        }
    }
    let name = "aioxide_worker_memory_bytes";
    page.family(name, "Resident set of a worker's process.", "gauge");
    let mut memory = BTreeMap::<Role, u64>::new();
    for (role, bytes) in sample.memory {
        *memory.entry(*role).or_default() += bytes;
    }
    for (role, bytes) in memory {
        page.sample(name, &[("worker", &worker(role))], bytes);
    }

    for (gauge, name, help) in GAUGES {
        page.family(name, help, "gauge");
        let mut sums = BTreeMap::<(Role, &CountKey), f64>::new();
        for worker in &view.workers {
            let gauges = known(worker)
                .into_iter()
                .flat_map(|figures| &figures.gauges);
            for told in gauges.filter(|told| told.key.name == *gauge) {
                *sums.entry((worker.role, &told.key)).or_default() += told.value;
            }
        }
        for ((role, key), value) in sums {
            page.sample_of(name, &worker(role), key, value);
        }
    }
    for (count, name, help) in COUNTS {
        page.family(name, help, "counter");
        let counted = sample
            .totals
            .iter()
            .filter(|((key, _), _)| key.name == *count);
        for ((key, role), value) in counted {
            page.sample_of(name, &worker(*role), key, value);
        }
        // Those of threads are counted for their process.
        match (*count, sample.teardowns) {
            ("teardowns", Some(stats)) => page.sample(name, &[], stats.detached),
            ("teardowns_failed", Some(stats)) => page.sample(name, &[], stats.failed),
            _ => {}
        }
    }
    own::write(&mut page, sample.view, &known, sample.totals, worker);
    page.text
}
