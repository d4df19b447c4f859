//! The page: what was done and on what, and all tables.

use std::time::Duration;

use crate::table::Table;

const TEMPLATE: &str = include_str!("page.md");

/// What a reader wants to know first.
struct Headline {
    what: &'static str,
    table: &'static str,
    /// Of the figures; what was remarked if there is none.
    column: Option<usize>,
    who: &'static str,
    peers: &'static [&'static str],
}

const HTTP_PEERS: &[&str] = &[
    "hyper on bare threads",
    "axum, multi-thread runtime",
    "actix-web",
];

const HEADLINES: [Headline; 7] = [
    Headline {
        what: "an HTTP request, CPU",
        table: "HTTP on persistent connections, 2 workers",
        column: Some(0),
        who: "aioxide threads",
        peers: HTTP_PEERS,
    },
    Headline {
        what: "an HTTP request, CPU, looked into each second",
        table: "Monitor, HTTP on persistent connections, 1 worker",
        column: Some(0),
        who: "aioxide threads, monitor scraped each second",
        peers: &["aioxide threads"],
    },
    Headline {
        what: "requests lost in reloads",
        table: "Reloads under load by HTTP, 2 workers",
        column: None,
        who: "aioxide threads",
        peers: &[
            "axum, multi-thread runtime",
            "gunicorn, uvicorn's workers",
            "puma",
            "nginx",
        ],
    },
    Headline {
        what: "a connection while a worker is blocked, p99.9",
        table: "New connections while one of 4 workers is blocked",
        column: Some(0),
        who: "aioxide threads",
        peers: HTTP_PEERS,
    },
    Headline {
        what: "a connection, CPU",
        table: "Echo on fresh connections, 2 workers",
        column: Some(0),
        who: "aioxide threads",
        peers: &["bare threads", "actix-server", "aiotools, uvloop"],
    },
    Headline {
        what: "enter and leave a context",
        table: "Context, enter and exit",
        column: Some(0),
        who: "aioxide guard",
        peers: &[
            "boxed async-trait hooks",
            "a task per context",
            "aiotools, uvloop",
        ],
    },
    Headline {
        what: "a tick of 10,000 timers, CPU",
        table: "10000 timers of 100ms, one thread",
        column: Some(0),
        who: "aioxide timers",
        peers: &["interval loops", "a task per tick"],
    },
];

impl Headline {
    /// If it was measured.
    fn row(&self, tables: &[Table]) -> Option<String> {
        let table = tables.iter().find(|table| table.title == self.table)?;
        Some(match self.column {
            Some(column) => table.headline(self.what, column, self.who, self.peers),
            None => table.told_headline(self.what, self.who, self.peers),
        })
    }
}

pub(crate) struct Page<'a> {
    pub(crate) command: String,
    pub(crate) took: Duration,
    pub(crate) rounds: usize,
    pub(crate) machine: &'a str,
    pub(crate) tables: &'a [Table],
}

impl Page<'_> {
    pub(crate) fn markdown(&self) -> String {
        let took = self.took.as_secs();
        let behind: Vec<String> = self.tables.iter().flat_map(Table::behind).collect();
        let behind = match behind.is_empty() {
            true => "Nowhere.".to_owned(),
            false => format!("- {}", behind.join("\n- ")),
        };
        let mut tables = String::new();
        for (place, table) in self.tables.iter().enumerate() {
            tables.push_str(&table.markdown());
            tables.push('\n');
            // Once for all that have the same, after the last of them.
            let next = self.tables.get(place + 1);
            if next.is_none_or(|next| next.limits != table.limits) {
                tables.push_str(&format!("{}\n\n", table.limits.trim()));
            }
        }
        let (bounds, kept) = self
            .tables
            .iter()
            .map(Table::bounds)
            .fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
        let headlines = HEADLINES
            .iter()
            .filter_map(|headline| headline.row(self.tables));
        let headlines: Vec<String> = headlines.collect();
        let page = TEMPLATE
            .replace("{bounds}", &bounds.to_string())
            .replace("{kept}", &kept.to_string())
            .replace("{headlines}", &headlines.join("\n"))
            .replace("{command}", &self.command)
            .replace("{took}", &format!("{} min {} s", took / 60, took % 60))
            .replace("{machine}", self.machine)
            .replace("{rounds}", &self.rounds.to_string())
            .replace("{behind}", &behind)
            .replace("{tables}", &tables);
        format!("{}\n", page.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::table;

    #[test]
    fn a_page_has_everything_in_its_place() {
        let page = Page {
            command: "cargo run".to_owned(),
            took: Duration::from_secs(61),
            rounds: 3,
            machine: "A machine.",
            tables: &[table(), table()],
        };
        let text = page.markdown();
        assert!(!text.contains(['{', '}']), "{text}");
        for part in [
            "cargo run",
            "1 min 1 s",
            "of 3 rounds",
            "A machine.",
            "- Echo",
            "## Echo",
            "2 of 4 bounds that aioxide has set itself are kept",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("One client.").count(), 1);
        let nothing = Page {
            tables: &[],
            ..page
        };
        assert!(nothing.markdown().contains("Nowhere."));
    }
}
