//! What was measured, round by round, and what of it goes into the page.

use std::fmt::Write as _;

use crate::stats::{Spread, figure};

/// A measured quantity; of the compared ones the ratios to the base are told.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) compared: bool,
}

pub(crate) const fn compared(name: &'static str) -> Column {
    Column {
        name,
        compared: true,
    }
}

pub(crate) const fn told(name: &'static str) -> Column {
    Column {
        name,
        compared: false,
    }
}

struct Row {
    who: String,
    /// Of each column, those of all rounds.
    samples: Vec<Vec<f64>>,
    remark: String,
}

/// What the workers of a row are, where that makes the figure.
#[derive(PartialEq)]
enum Isolation {
    Threads,
    Processes,
}

impl Isolation {
    fn of(who: &str) -> Option<Isolation> {
        who.split([' ', ',', '-']).find_map(|word| match word {
            "threads" | "thread" | "actix" => Some(Isolation::Threads),
            "processes" | "aiotools" => Some(Isolation::Processes),
            _ => None,
        })
    }

    /// Processes cost what threads don't, whoever starts them.
    fn comparable(a: &str, b: &str) -> bool {
        match (Isolation::of(a), Isolation::of(b)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }
}

/// A claim of this project about itself.
struct Bound {
    claim: String,
    at_most: f64,
    is: Spread,
}

impl Bound {
    fn kept(&self) -> bool {
        self.is.median <= self.at_most
    }
}

pub(crate) struct Table {
    pub(crate) title: String,
    /// The row that the others are compared with.
    base: &'static str,
    columns: &'static [Column],
    remarks: Option<&'static str>,
    /// What is to be known about its figures.
    pub(crate) limits: &'static str,
    rows: Vec<Row>,
    bounds: Vec<Bound>,
}

/// A compared column's ratios to the base.
pub(crate) struct Ratios<'a> {
    pub(crate) title: String,
    pub(crate) rows: Vec<(&'a str, Spread)>,
}

impl Table {
    pub(crate) fn new(
        title: impl Into<String>,
        base: &'static str,
        columns: &'static [Column],
        limits: &'static str,
    ) -> Table {
        Table {
            title: title.into(),
            base,
            columns,
            remarks: None,
            limits,
            rows: Vec::new(),
            bounds: Vec::new(),
        }
    }

    fn row(&mut self, who: &str) -> &mut Row {
        let place = self.rows.iter().position(|row| row.who == who);
        let place = place.unwrap_or_else(|| {
            self.rows.push(Row {
                who: who.to_owned(),
                samples: vec![Vec::new(); self.columns.len()],
                remark: String::new(),
            });
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }

    /// A round's samples, one for each column.
    pub(crate) fn add<const N: usize>(&mut self, who: &str, samples: [f64; N]) {
        assert_eq!(N, self.columns.len(), "one for each column");
        let row = self.row(who);
        for (column, sample) in row.samples.iter_mut().zip(samples) {
            column.push(sample);
        }
    }

    /// What else is to be said of a row, in a last column of this name.
    pub(crate) fn remark(&mut self, column: &'static str, who: &str, remark: String) {
        self.remarks = Some(column);
        self.row(who).remark = remark;
    }

    fn samples(&self, who: &str, column: usize) -> &[f64] {
        let row = self.rows.iter().find(|row| row.who == who);
        row.map_or(&[], |row| &row.samples[column])
    }

    pub(crate) fn spread(&self, who: &str, column: usize) -> Spread {
        Spread::of(self.samples(who, column))
    }

    fn ratio(&self, who: &str, other: &str, column: usize) -> Spread {
        Spread::of_ratios(self.samples(who, column), self.samples(other, column))
    }

    /// A bound on a figure.
    pub(crate) fn bound(&mut self, claim: String, is: Spread, at_most: f64) {
        self.bounds.push(Bound { claim, at_most, is });
    }

    /// A bound on a figure of a row.
    pub(crate) fn bound_on(&mut self, who: &str, column: usize, at_most: f64) {
        let claim = format!("{}, {}", who, self.columns[column].name);
        self.bound(claim, self.spread(who, column), at_most);
    }

    /// A bound on the ratio of two rows.
    pub(crate) fn bound_on_ratio(&mut self, who: &str, other: &str, column: usize, at_most: f64) {
        let claim = format!("{who} / {other}, {}", self.columns[column].name);
        self.bound(claim, self.ratio(who, other, column), at_most);
    }

    /// How many bounds there are, and how many of them are kept.
    pub(crate) fn bounds(&self) -> (usize, usize) {
        let kept = self.bounds.iter().filter(|bound| bound.kept()).count();
        (self.bounds.len(), kept)
    }

    /// A row of the table of what matters most: a figure of one row, and its ratios to the peers that were measured.
    pub(crate) fn headline(&self, what: &str, column: usize, who: &str, peers: &[&str]) -> String {
        let measured = |peer: &&&str| !self.samples(peer, column).is_empty();
        let ratio = |peer: &&str| {
            let ratio = figure(self.ratio(who, peer, column).median);
            format!("{ratio} of {peer}")
        };
        let ratios: Vec<String> = peers.iter().filter(measured).map(ratio).collect();
        let is = figure(self.spread(who, column).median);
        let unit = self.columns[column].name.rsplit(", ").next();
        let unit = unit.unwrap_or_default();
        format!("| {what} | {is} {unit} | {} |", ratios.join(", "))
    }

    /// The same of what was remarked on the rows.
    pub(crate) fn told_headline(&self, what: &str, who: &str, peers: &[&str]) -> String {
        let remark = |who: &str| {
            let row = self.rows.iter().find(|row| row.who == who)?;
            Some(row.remark.as_str())
        };
        let told = |peer: &&str| Some(format!("{peer}: {}", remark(peer)?));
        let peers: Vec<String> = peers.iter().filter_map(told).collect();
        let is = remark(who).unwrap_or_default();
        format!("| {what} | {is} | {} |", peers.join(", "))
    }

    pub(crate) fn kept(&self) -> bool {
        self.bounds.iter().all(Bound::kept)
    }

    pub(crate) fn ratios(&self) -> Vec<Ratios<'_>> {
        let columns = self.columns.iter().enumerate();
        let compared = columns.filter(|(_, column)| column.compared);
        compared
            .map(|(place, column)| Ratios {
                title: format!("{}: {}", self.title, column.name),
                rows: self
                    .rows
                    .iter()
                    .map(|row| (row.who.as_str(), self.ratio(&row.who, self.base, place)))
                    .collect(),
            })
            .collect()
    }

    /// The peers of the same isolation that aioxide's rows are behind, in three rounds of four at least.
    pub(crate) fn behind(&self) -> Vec<String> {
        let aioxide = |row: &&Row| row.who.starts_with("aioxide");
        let mut behind = Vec::new();
        for (place, column) in self.columns.iter().enumerate() {
            if !column.compared {
                continue;
            }
            for ours in self.rows.iter().filter(aioxide) {
                let peers = self
                    .rows
                    .iter()
                    .filter(|row| !aioxide(row) && Isolation::comparable(&ours.who, &row.who));
                let ahead: Vec<String> = peers
                    .map(|peer| (peer, self.ratio(&ours.who, &peer.who, place)))
                    .filter(|(_, ratio)| ratio.low > 1.0)
                    .map(|(peer, ratio)| format!("{ratio} of {}", peer.who))
                    .collect();
                if !ahead.is_empty() {
                    let (title, who, ahead) = (&self.title, &ours.who, ahead.join("; "));
                    behind.push(format!("{title}, {}: {who}, {ahead}", column.name));
                }
            }
        }
        behind
    }

    pub(crate) fn markdown(&self) -> String {
        let mut page = format!("## {}\n\n| |", self.title);
        for column in self.columns {
            let _ = write!(page, " {} |", column.name);
            if column.compared {
                let _ = write!(page, " ratio |");
            }
        }
        let ratios = self.columns.iter().filter(|column| column.compared).count();
        let mut columns = self.columns.len() + ratios;
        if let Some(remarks) = self.remarks {
            let _ = write!(page, " {remarks} |");
            columns += 1;
        }
        let _ = write!(page, "\n| --- |{}", " ---: |".repeat(columns));
        for row in &self.rows {
            let _ = write!(page, "\n| {} |", row.who);
            for (place, column) in self.columns.iter().enumerate() {
                let _ = write!(page, " {} |", self.spread(&row.who, place));
                if column.compared {
                    let _ = match row.who == self.base {
                        true => write!(page, " 1 |"),
                        false => write!(page, " {} |", self.ratio(&row.who, self.base, place)),
                    };
                }
            }
            if self.remarks.is_some() {
                let _ = write!(page, " {} |", row.remark);
            }
        }
        page.push('\n');
        if !self.bounds.is_empty() {
            page.push_str("\n| bound | is | at most | |\n| --- | ---: | ---: | --- |\n");
            for bound in &self.bounds {
                let verdict = if bound.kept() { "kept" } else { "**over**" };
                let (claim, is, at_most) = (&bound.claim, bound.is, figure(bound.at_most));
                let _ = writeln!(page, "| {claim} | {is} | {at_most} | {verdict} |");
            }
        }
        page
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use expect_test::expect;

    use super::*;

    pub(crate) fn table() -> Table {
        const COLUMNS: &[Column] = &[compared("CPU, µs"), told("requests/s")];
        let mut table = Table::new("Echo", "bare", COLUMNS, "One client.");
        for (bare, aioxide) in [(1.0, 1.5), (2.0, 2.8), (10.0, 16.0)] {
            table.add("bare", [bare, 1000.0]);
            table.add("aioxide", [aioxide, 900.0]);
        }
        table.remark("failed", "aioxide", "none".to_owned());
        table.bound_on_ratio("aioxide", "bare", 0, 1.55);
        table.bound_on("aioxide", 0, 2.5);
        table
    }

    #[test]
    fn a_table_is_markdown() {
        expect![[r#"
            ## Echo

            | | CPU, µs | ratio | requests/s | failed |
            | --- | ---: | ---: | ---: | ---: |
            | bare | 2.00 (1.50–6.00) | 1 | 1000 |  |
            | aioxide | 2.80 (2.15–9.40) | 1.50 (1.45–1.55) | 900 | none |

            | bound | is | at most | |
            | --- | ---: | ---: | --- |
            | aioxide / bare, CPU, µs | 1.50 (1.45–1.55) | 1.55 | kept |
            | aioxide, CPU, µs | 2.80 (2.15–9.40) | 2.50 | **over** |
        "#]]
        .assert_eq(&table().markdown());
    }

    #[test]
    fn a_bound_that_is_not_kept_is_known() {
        assert!(!table().kept());
        assert!(Table::new("None", "bare", &[], "").kept());
    }

    #[test]
    fn what_is_behind_is_told_with_whom() {
        assert_eq!(
            table().behind(),
            ["Echo, CPU, µs: aioxide, 1.50 (1.45–1.55) of bare"]
        );
    }

    #[test]
    fn processes_are_not_behind_threads() {
        const COLUMNS: &[Column] = &[compared("start, ms")];
        let mut table = Table::new("Start", "bare processes", COLUMNS, "");
        for _ in 0..4 {
            table.add("bare threads", [1.0]);
            table.add("actix-server", [1.0]);
            table.add("axum, multi-thread runtime", [1.0]);
            table.add("bare processes", [2.0]);
            table.add("aiotools, uvloop", [2.0]);
            table.add("aioxide threads", [3.0]);
            table.add("aioxide processes", [4.0]);
        }
        assert_eq!(
            table.behind(),
            [
                "Start, start, ms: aioxide threads, 3.00 of bare threads; 3.00 of actix-server; 3.00 of axum, multi-thread runtime",
                "Start, start, ms: aioxide processes, 2.00 of bare processes; 2.00 of aiotools, uvloop",
            ]
        );
    }

    #[test]
    fn a_headline_has_the_peers_that_were_measured() {
        let mut table = table();
        let row = table.headline("a request", 0, "aioxide", &["bare", "aiotools"]);
        assert_eq!(row, "| a request | 2.80 µs | 1.50 of bare |");
        table.remark("failed", "bare", "2 of 7".to_owned());
        let row = table.told_headline("failed", "aioxide", &["bare", "aiotools"]);
        assert_eq!(row, "| failed | none | bare: 2 of 7 |");
    }
}
