//! What the program itself counts, among the figures of the server.

use std::collections::BTreeMap;

use super::page::Page;
use crate::server::line::{CountKey, Figures, Role, Sort};
use crate::server::supervisor::{View, WorkerView};

/// A metric of all workers.
struct Family {
    kind: &'static str,
    samples: Vec<Sample>,
}

struct Sample {
    suffix: &'static str,
    labels: Vec<(String, String)>,
    value: f64,
}

pub(super) fn write<'f>(
    page: &mut Page,
    view: &View,
    known: &impl Fn(&WorkerView) -> Option<&'f Figures>,
    totals: &BTreeMap<(CountKey, Role), f64>,
    worker: impl Fn(Role) -> String,
) {
    let mut families = BTreeMap::<String, Family>::new();
    let mut helps = BTreeMap::new();
    let mut add = |role: Role, key: &CountKey, value: f64| {
        let Some(own) = &key.own else { return };
        let (kind, suffix) = match own.sort {
            Sort::Counter => ("counter", ""),
            Sort::Gauge => ("gauge", ""),
            Sort::Bucket => ("histogram", "_bucket"),
            Sort::Sum => ("histogram", "_sum"),
        };
        let new = || Family {
            kind,
            samples: Vec::new(),
        };
        let family = families.entry(metric_name(&key.name)).or_insert_with(new);
        // One name is one kind: what comes first.
        if family.kind != kind {
            return;
        }
        let mut labels = vec![("worker".to_owned(), worker(role))];
        let (own, bound) = match (own.sort, own.labels.split_last()) {
            (Sort::Bucket, Some((bound, own))) => (own, Some(bound.clone())),
            _ => (&own.labels[..], None),
        };
        for (label, value) in own {
            let label = label_name(label);
            // Two of one name would make Prometheus refuse everything.
            if labels.iter().all(|(known, _)| *known != label) {
                labels.push((label, value.clone()));
            }
        }
        labels.extend(bound);
        if labels
            .last()
            .is_some_and(|(label, value)| label == "le" && value == "+Inf")
        {
            let labels = labels[..labels.len() - 1].to_vec();
            let suffix = "_count";
            family.samples.push(Sample {
                suffix,
                labels,
                value,
            });
        }
        family.samples.push(Sample {
            suffix,
            labels,
            value,
        });
    };
    for ((key, role), value) in totals {
        add(*role, key, *value);
    }
    let mut gauges = BTreeMap::<(Role, &CountKey), f64>::new();
    for worker in &view.workers {
        let Some(figures) = known(worker) else {
            continue;
        };
        helps.extend(&figures.helps);
        for gauge in &figures.gauges {
            *gauges.entry((worker.role, &gauge.key)).or_default() += gauge.value;
        }
    }
    for ((role, key), value) in gauges {
        add(role, key, value);
    }
    let helps: BTreeMap<String, &String> = helps
        .into_iter()
        .map(|(name, help)| (metric_name(name), help))
        .collect();
    for (name, mut family) in families {
        let help = helps
            .get(&name)
            .map_or("One of the program's own.", |help| help.as_str());
        page.family(&name, help, family.kind);
        family.samples.sort_by(|a, b| {
            a.order()
                .partial_cmp(&b.order())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        for Sample {
            suffix,
            labels,
            value,
        } in &family.samples
        {
            let labels: Vec<(&str, &str)> = labels
                .iter()
                .map(|(label, value)| (&**label, &**value))
                .collect();
            page.sample(&format!("{name}{suffix}"), &labels, value);
        }
    }
}

impl Sample {
    /// By series, and buckets by their bounds.
    fn order(&self) -> (&[(String, String)], &str, f64) {
        match self.labels.split_last() {
            Some(((label, bound), labels)) if label == "le" => {
                (labels, self.suffix, bound.parse().unwrap_or(f64::INFINITY))
            }
            _ => (&self.labels, self.suffix, 0.0),
        }
    }
}

/// As Prometheus allows it; the names of the server's figures are its own.
fn metric_name(name: &str) -> String {
    let name = allowed(name, |character| character == ':');
    match name.starts_with("aioxide_") {
        true => format!("program_{name}"),
        false => name,
    }
}

fn label_name(name: &str) -> String {
    match name {
        "worker" | "le" => format!("exported_{name}"),
        name => allowed(name, |_| false),
    }
}

fn allowed(name: &str, other: fn(char) -> bool) -> String {
    let allowed = name.chars().map(|character| match character {
        '_' | 'a'..='z' | 'A'..='Z' | '0'..='9' => character,
        character if other(character) => character,
        _ => '_',
    });
    let allowed: String = allowed.collect();
    match allowed.starts_with(|first: char| first.is_ascii_digit()) || allowed.is_empty() {
        true => format!("_{allowed}"),
        false => allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_as_prometheus_allows() {
        assert_eq!(metric_name("http.requests/all"), "http_requests_all");
        assert_eq!(metric_name("a:b"), "a:b");
        assert_eq!(metric_name("9 lives"), "_9_lives");
        assert_eq!(metric_name("aioxide_tasks"), "program_aioxide_tasks");
        assert_eq!(label_name("a:b"), "a_b");
        assert_eq!(label_name("worker"), "exported_worker");
        assert_eq!(label_name(""), "_");
    }
}
