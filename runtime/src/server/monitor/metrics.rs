//! The figures of a server in Prometheus' text format.

use std::fmt::{Display, Write};
use std::rc::Rc;

use hyper::{Response, StatusCode};

use super::desk::{Desk, ready};
use super::http::{self, Content};
use crate::server::supervisor::View;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn response(desk: &Rc<Desk>, view: &View) -> Response<Content> {
    http::response(StatusCode::OK, CONTENT_TYPE, text(desk, view).await)
}

pub(super) async fn text(desk: &Rc<Desk>, view: &View) -> String {
    let mut page = Page::default();
    let of_server = |page: &mut Page, name, help, kind, value: f64| {
        page.family(name, help, kind);
        page.sample(name, &[], value);
    };
    page.family(
        "aioxide_info",
        "The server, by name and version of aioxide.",
        "gauge",
    );
    let labels = [
        ("name", desk.about.name.as_str()),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    page.sample("aioxide_info", &labels, 1);
    let wanted = view.wanted as f64;
    of_server(
        &mut page,
        "aioxide_workers_wanted",
        "How many workers there are to be.",
        "gauge",
        wanted,
    );
    let ready = ready(view) as f64;
    of_server(
        &mut page,
        "aioxide_workers_ready",
        "How many workers are ready.",
        "gauge",
        ready,
    );
    page.family(
        "aioxide_worker_restarts_total",
        "How often a worker was started after the first time.",
        "counter",
    );
    for place in &view.places {
        let worker = label(place.role.index(), &place.name);
        page.sample(
            "aioxide_worker_restarts_total",
            &[("worker", &worker)],
            place.restarts,
        );
    }
    page.family(
        "aioxide_worker_failures_total",
        "How often a worker failed.",
        "counter",
    );
    for place in &view.places {
        let worker = label(place.role.index(), &place.name);
        page.sample(
            "aioxide_worker_failures_total",
            &[("worker", &worker)],
            place.failures,
        );
    }
    page.text
}

/// The index of a worker, or the name of an extra.
pub(super) fn label(index: Option<usize>, name: &str) -> String {
    index.map_or_else(|| name.to_owned(), |index| index.to_string())
}

/// The format itself.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
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
