//! What the program itself counts by the macros of the crate `metrics`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};

use super::lock::lock;
use super::member::count;

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
        let histogram = count(|member| {
            let given = self.0.buckets.get(key.name()).cloned();
            member.own.histogram(key, given)
        })
        .flatten();
        histogram.map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::{Census, OwnValue};

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
