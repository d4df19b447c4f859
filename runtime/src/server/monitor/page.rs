//! Prometheus' text format.

use std::fmt::{Display, Write};

use crate::server::line::CountKey;

/// Figures as text.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
}

impl Page {
    pub(super) fn family(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Of a worker, with the labels of its key.
    pub(super) fn sample_of(
        &mut self,
        name: &str,
        worker: &str,
        key: &CountKey,
        value: impl Display,
    ) {
        let own = [
            ("worker", Some(worker)),
            ("timer", key.timer.as_deref()),
            ("context", key.context.as_deref()),
            ("outcome", key.outcome.as_deref()),
        ];
        let labels = own.map(|(label, value)| value.map(|value| (label, value)));
        let labels: Vec<(&str, &str)> = labels.into_iter().flatten().collect();
        self.sample(name, &labels, value);
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels = labels.iter().map(|(label, value)| {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{label}=\"{value}\"")
        });
        let labels: Vec<String> = labels.collect();
        let _ = match labels.is_empty() {
            true => writeln!(self.text, "{name} {value}"),
            false => writeln!(self.text, "{name}{{{}}} {value}", labels.join(",")),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("a_total", "Some.", "counter");
        page.sample("a_total", &[("worker", "a\"b\\c\nd"), ("timer", "t")], 3);
        page.sample("a_total", &[], 0.5);
        assert_eq!(
            page.text,
            "# HELP a_total Some.\n# TYPE a_total counter\n\
             a_total{worker=\"a\\\"b\\\\c\\nd\",timer=\"t\"} 3\na_total 0.5\n"
        );
    }
}
