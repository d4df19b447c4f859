//! The series of what the program itself counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{GaugeFn, HistogramFn, Key};

use super::lock::lock;

/// How many series a worker may have.
const SERIES: usize = 10_000;

/// The buckets of histograms for which none are given: those of Prometheus' own clients.
const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The series of a worker.
#[derive(Default)]
pub(super) struct Own(Mutex<Series>);

#[derive(Default)]
struct Series {
    counters: HashMap<Key, Arc<AtomicU64>>,
    gauges: HashMap<Key, Arc<AtomicU64>>,
    histograms: HashMap<Key, Arc<Buckets>>,
}

/// A series as it is now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OwnSeries {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: OwnValue,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OwnValue {
    Counter(f64),
    Gauge(f64),
    /// How many were at most as great as each bound, of which the last is infinite; and their sum.
    Histogram(Vec<(f64, f64)>, f64),
}

pub(super) struct Buckets {
    bounds: Arc<[f64]>,
    /// One more than there are bounds.
    counts: Vec<AtomicU64>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: Arc<[f64]>) -> Buckets {
        Buckets {
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            bounds,
            sum: AtomicU64::new(0.0_f64.to_bits()),
        }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        GaugeFn::increment(&self.sum, value);
    }
}

impl Own {
    pub(super) fn counter(&self, key: &Key) -> Option<Arc<AtomicU64>> {
        let mut series = lock(&self.0);
        let may_be_new = series.may_grow();
        get(&mut series.counters, key, may_be_new, Arc::default)
    }

    pub(super) fn gauge(&self, key: &Key) -> Option<Arc<AtomicU64>> {
        let mut series = lock(&self.0);
        let may_be_new = series.may_grow();
        get(&mut series.gauges, key, may_be_new, || {
            Arc::new(AtomicU64::new(0.0_f64.to_bits()))
        })
    }

    /// With these bounds, if it is new.
    pub(super) fn histogram(&self, key: &Key, given: Option<Arc<[f64]>>) -> Option<Arc<Buckets>> {
        let mut series = lock(&self.0);
        let may_be_new = series.may_grow();
        get(&mut series.histograms, key, may_be_new, || {
            Arc::new(Buckets::new(given.unwrap_or_else(|| Arc::from(BUCKETS))))
        })
    }

    pub(super) fn look(&self) -> Vec<OwnSeries> {
        let series = lock(&self.0);
        let of = |key: &Key, value: OwnValue| OwnSeries {
            name: key.name().to_owned(),
            labels: key
                .labels()
                .map(|label| (label.key().to_owned(), label.value().to_owned()))
                .collect(),
            value,
        };
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let counters = series
            .counters
            .iter()
            .map(|(key, value)| of(key, OwnValue::Counter(load(value) as f64)));
        let gauges = series
            .gauges
            .iter()
            .map(|(key, value)| of(key, OwnValue::Gauge(f64::from_bits(load(value)))));
        let histograms = series.histograms.iter().map(|(key, buckets)| {
            let bounds = buckets.bounds.iter().copied().chain([f64::INFINITY]);
            let mut below = 0;
            let counts = bounds.zip(&buckets.counts).map(|(bound, count)| {
                below += load(count);
                (bound, below as f64)
            });
            let counts = counts.collect();
            of(
                key,
                OwnValue::Histogram(counts, f64::from_bits(load(&buckets.sum))),
            )
        });
        counters.chain(gauges).chain(histograms).collect()
    }
}

impl Series {
    fn may_grow(&self) -> bool {
        self.counters.len() + self.gauges.len() + self.histograms.len() < SERIES
    }
}

fn get<T>(
    known: &mut HashMap<Key, Arc<T>>,
    key: &Key,
    may_be_new: bool,
    new: impl FnOnce() -> Arc<T>,
) -> Option<Arc<T>> {
    if let Some(found) = known.get(key) {
        return Some(Arc::clone(found));
    }
    may_be_new.then(|| Arc::clone(known.entry(key.clone()).or_insert_with(new)))
}
