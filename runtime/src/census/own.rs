//! What the program itself counts by the macros of the crate `metrics`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use metrics::{
    Counter, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit,
};

use super::{count, lock};

/// How many series a worker may have.
const SERIES: usize = 10_000;

/// The buckets of histograms for which none are given: those of Prometheus' own clients.
const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Set by whoever installs the recorder.
static INSTALLED: OnceLock<Arc<Common>> = OnceLock::new();

/// What is common to all workers of a process.
#[derive(Default)]
struct Common {
    buckets: BTreeMap<String, Arc<[f64]>>,
    helps: Mutex<BTreeMap<String, String>>,
}

/// A recorder for the whole process that counts in the workers whose threads they are.
struct Recorder(Arc<Common>);

/// Has the macros count in the workers. False if they count elsewhere already.
pub(crate) fn install(buckets: &BTreeMap<String, Vec<f64>>) -> bool {
    if INSTALLED.get().is_some() {
        return true;
    }
    let buckets = buckets.iter();
    let common = Arc::new(Common {
        buckets: buckets
            .map(|(name, bounds)| (name.clone(), Arc::from(&bounds[..])))
            .collect(),
        helps: Mutex::default(),
    });
    let installed = metrics::set_global_recorder(Recorder(Arc::clone(&common))).is_ok();
    if installed {
        // Whoever came first is the recorder.
        let _ = INSTALLED.set(common);
    }
    installed
}

/// What metrics are said to be, by name.
pub(crate) fn helps() -> BTreeMap<String, String> {
    let common = INSTALLED.get();
    common.map_or_else(BTreeMap::new, |common| lock(&common.helps).clone())
}

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

struct Buckets {
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
    fn counter(&self, key: &Key) -> Option<Arc<AtomicU64>> {
        let mut series = lock(&self.0);
        let may_be_new = series.may_grow();
        get(&mut series.counters, key, may_be_new, Arc::default)
    }

    fn gauge(&self, key: &Key) -> Option<Arc<AtomicU64>> {
        let mut series = lock(&self.0);
        let may_be_new = series.may_grow();
        get(&mut series.gauges, key, may_be_new, || {
            Arc::new(AtomicU64::new(0.0_f64.to_bits()))
        })
    }

    fn histogram(&self, key: &Key, common: &Common) -> Option<Arc<Buckets>> {
        let mut series = lock(&self.0);
        let may_be_new = series.may_grow();
        get(&mut series.histograms, key, may_be_new, || {
            let given = common.buckets.get(key.name()).cloned();
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

impl Recorder {
    fn describe(&self, name: &KeyName, description: &SharedString) {
        let (name, help) = (name.as_str().to_owned(), description.to_string());
        lock(&self.0.helps).insert(name, help);
    }
}

/// Of threads that belong to no worker nothing is counted.
impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let counter = count(|member| member.own.counter(key)).flatten();
        counter.map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let gauge = count(|member| member.own.gauge(key)).flatten();
        gauge.map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let histogram = count(|member| member.own.histogram(key, &self.0)).flatten();
        histogram.map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Census;
    use super::*;

    #[test]
    fn each_worker_counts_for_itself() {
        let buckets = BTreeMap::from([("size".to_owned(), vec![1.0, 2.0])]);
        let recorder = Recorder(Arc::new(Common {
            buckets: BTreeMap::from([("size".to_owned(), Arc::from(&buckets["size"][..]))]),
            helps: Mutex::default(),
        }));
        let [first, second] = [Census::new(), Census::new()];
        metrics::with_local_recorder(&recorder, || {
            metrics::counter!("orders").increment(5);
            first.join();
            metrics::describe_counter!("orders", "What was ordered.");
            metrics::counter!("orders", "of" => "tea").increment(2);
            metrics::gauge!("queue").set(1.5);
            for size in [0.5, 1.0, 1.5, 9.0] {
                metrics::histogram!("size").record(size);
            }
            second.join();
            metrics::counter!("orders", "of" => "tea").increment(1);
        });
        let mut told = first.own();
        told.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(told.len(), 3);
        assert_eq!(told[0].labels, [("of".to_owned(), "tea".to_owned())]);
        assert_eq!(told[0].value, OwnValue::Counter(2.0));
        assert_eq!(told[1].value, OwnValue::Gauge(1.5));
        let buckets = vec![(1.0, 2.0), (2.0, 3.0), (f64::INFINITY, 4.0)];
        assert_eq!(told[2].value, OwnValue::Histogram(buckets, 12.0));
        assert_eq!(second.own()[0].value, OwnValue::Counter(1.0));
        assert_eq!(lock(&recorder.0.helps)["orders"], "What was ordered.");
    }
}
