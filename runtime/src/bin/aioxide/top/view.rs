//! How `aioxide top` looks.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::model::{self, Event, Model, Note, Question, Seen, Server, Timer};

/// A column of the table of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Worker,
    Pid,
    Generation,
    State,
    Since,
    Rate,
    Open,
    Busy,
    Lag,
    Memory,
    Tasks,
    Restarts,
    Failure,
}

use Column::*;

/// From left to right: each with its title, its width, and when it has to go where there is no room for all, the last first.
const COLUMNS: &[(Column, &str, u16, u8)] = &[
    (Worker, "WORKER", 10, 0),
    (Pid, "PID", 7, 5),
    (Generation, "GEN", 4, 9),
    (State, "STATE", 10, 0),
    (Since, "SINCE", 8, 7),
    (Rate, "PER SECOND", 18, 2),
    (Open, "OPEN", 6, 1),
    (Busy, "BUSY", 5, 1),
    (Lag, "LAG", 8, 4),
    (Memory, "MEMORY", 9, 3),
    (Tasks, "TASKS", 6, 6),
    (Restarts, "RESTARTS", 8, 8),
    (Failure, "LAST FAILURE", 20, 10),
];

/// The columns that fit, with a blank between them.
fn columns(width: u16, has_memory: bool) -> Vec<(Column, &'static str, u16)> {
    let mut columns = COLUMNS.to_vec();
    columns.retain(|(column, ..)| has_memory || *column != Memory);
    let taken = |columns: &[(Column, &str, u16, u8)]| -> u16 {
        columns.iter().map(|(_, _, width, _)| width + 1).sum()
    };
    while taken(&columns) > width + 1 {
        let goes = columns.iter().max_by_key(|(.., goes)| *goes);
        match goes {
            Some(&(column, .., 1..)) => columns.retain(|(other, ..)| *other != column),
            _ => break,
        }
    }
    columns
        .into_iter()
        .map(|(column, title, width, _)| (column, title, width))
        .collect()
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    let Some(seen) = &model.seen else {
        let why = model.away.as_deref().unwrap_or("looking ..");
        frame.render_widget(Paragraph::new(why), area);
        return;
    };
    let timers = by_name(&seen.timers);
    // The workers first, then what there is room for.
    let workers = seen.workers.len() as u16 + 1;
    let timers_height = match timers.len() as u16 {
        0 => 0,
        number => number.min(8) + 2,
    };
    let [head, note, table, timers_area, events, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Max(workers),
        Constraint::Max(timers_height),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(headline(&seen.server)), head);
    frame.render_widget(Paragraph::new(noted(model)), note);
    draw_workers(frame, table, model, seen);
    draw_timers(frame, timers_area, &timers);
    draw_events(frame, events, model);
    frame.render_widget(Paragraph::new(asked(model, seen)), keys);
}

fn headline(server: &Server) -> Vec<Line<'static>> {
    let numbers = &server.workers;
    let addresses: Vec<&str> = server
        .addresses
        .iter()
        .map(|address| address.address.as_str())
        .collect();
    let mut first = vec![
        Span::from(server.name.clone()).bold(),
        Span::from(format!("  pid {}  ", server.pid)),
        Span::from(server.state.clone()).style(mood(&server.state)),
        Span::from(format!("  up {}", age(server.uptime))),
    ];
    if let Some(roll) = &server.roll {
        let roll = format!(
            "  roll: {}, {} to go, {} draining",
            roll.of, roll.remaining, roll.draining
        );
        first.push(Span::from(roll).fg(Color::Yellow));
    }
    let second = format!(
        "{} of {} ready, at most {}  {} workers  {}",
        numbers.ready,
        numbers.wanted,
        numbers.most,
        server.isolation,
        addresses.join(" ")
    );
    vec![Line::from(first), Line::from(second).dim()]
}

fn noted(model: &Model) -> Line<'static> {
    if let Some(why) = &model.away {
        return Line::from(format!("can't be reached: {why}")).fg(Color::Red);
    }
    match &model.note {
        Some(Note::Going(text)) => Line::from(format!("{text} ..")).fg(Color::Yellow),
        Some(Note::Done(text)) => Line::from(text.clone()).fg(Color::Green),
        Some(Note::Failed(text)) => Line::from(text.clone()).fg(Color::Red),
        None => Line::default(),
    }
}

fn asked(model: &Model, seen: &Seen) -> Line<'static> {
    let question = |text: String| Line::from(text).bold().fg(Color::Yellow);
    match &model.question {
        Some(Question::Sure(act)) => question(format!("{}? y/n", act.words().join(" "))),
        Some(Question::Number(typed)) => question(format!(
            "number of workers, 1 to {}: {typed}_  Enter, or Esc",
            seen.server.workers.most
        )),
        None => {
            let keys = [
                ("q", "quit"),
                ("r", "restart"),
                ("l", "reload"),
                ("s + -", "scale"),
                ("↑ ↓", "choose"),
            ];
            let spans = keys
                .iter()
                .flat_map(|(key, does)| [key.bold(), format!(" {does}   ").dim()]);
            Line::from(spans.collect::<Vec<_>>())
        }
    }
}

fn draw_workers(frame: &mut Frame<'_>, area: Rect, model: &Model, seen: &Seen) {
    let has_memory = seen.workers.iter().any(|worker| worker.memory.is_some());
    let columns = columns(area.width, has_memory);
    let header = Row::new(columns.iter().map(|(_, title, _)| *title)).dim();
    let rows = seen.workers.iter().map(|worker| {
        let rates = model.rates(worker);
        let cells = columns
            .iter()
            .map(|(column, ..)| cell(*column, worker, &rates));
        Row::new(cells)
    });
    let widths = columns.iter().map(|(column, _, width)| match column {
        // What is left is the last one's.
        Failure => Constraint::Min(*width),
        _ => Constraint::Length(*width),
    });
    let table = Table::new(rows, widths)
        .header(header)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(Some(model.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

fn cell(column: Column, worker: &model::Worker, rates: &[f64]) -> Cell<'static> {
    fn or<T>(value: Option<T>, written: impl Fn(T) -> String) -> String {
        value.map_or_else(|| "-".to_owned(), written)
    }
    let text = match column {
        Worker => worker.name.clone(),
        Pid => or(worker.pid, |pid| pid.to_string()),
        Generation => or(worker.generation, |generation| generation.to_string()),
        State => {
            let is_silent = worker.pid.is_some() && !worker.answers && worker.state == "ready";
            let (word, text) = match (is_silent, worker.retry_in) {
                (true, _) => ("blocked", "no answer".to_owned()),
                (_, Some(retry)) => (&*worker.state, format!("{} {retry:.0}s", worker.state)),
                _ => (&*worker.state, worker.state.clone()),
            };
            return Cell::new(text).style(mood(word));
        }
        Since => or(worker.since, age),
        Rate => match rates.last() {
            Some(rate) => format!("{rate:>7.1} {}", bars(rates, 10)),
            None => "-".to_owned(),
        },
        Open => or(worker.connections_open, |open| open.to_string()),
        Busy => or(worker.busy_percent, |busy| format!("{busy:.0}%")),
        Lag => or(worker.loop_lag, |lag| format!("{:.1}ms", lag * 1e3)),
        Memory => or(worker.memory, |bytes| {
            format!("{:.1}M", bytes as f64 / 1_048_576.0)
        }),
        Tasks => or(worker.tasks, |tasks| tasks.to_string()),
        Restarts => worker.restarts.to_string(),
        Failure => or(worker.last_failure.as_ref(), String::clone),
    };
    Cell::new(text)
}

/// The last values as bars, each as high as it is in proportion to the highest.
fn bars(values: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let last = &values[values.len().saturating_sub(width)..];
    let highest = last.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bar = |value: &f64| BARS[((value / highest * 7.0).round() as usize).min(7)];
    last.iter().map(bar).collect()
}

/// Timers of one name, which run in several workers.
fn by_name(timers: &[Timer]) -> Vec<Timer> {
    let mut named = BTreeMap::<&str, Timer>::new();
    for timer in timers.iter().filter(|timer| timer.left_out.is_none()) {
        let sum = named.entry(&timer.name).or_insert_with(|| Timer {
            name: timer.name.clone(),
            ..Timer::default()
        });
        let dues = [sum.next_due_in, timer.next_due_in].into_iter().flatten();
        sum.next_due_in = dues.reduce(f64::min);
        sum.running += timer.running;
        sum.completed += timer.completed;
        sum.failed += timer.failed;
        sum.missed += timer.missed;
    }
    named.into_values().collect()
}

fn draw_timers(frame: &mut Frame<'_>, area: Rect, timers: &[Timer]) {
    if area.height < 3 {
        return;
    }
    let area = below(area);
    let header = Row::new([
        "TIMER",
        "DUE IN",
        "RUNNING",
        "COMPLETED",
        "FAILED",
        "MISSED",
    ])
    .dim();
    let rows = timers.iter().map(|timer| {
        let due = timer.next_due_in.map_or_else(
            || "-".to_owned(),
            |due| match due < 60.0 {
                true => format!("{due:.1}s"),
                false => age(due),
            },
        );
        let counts = [timer.running, timer.completed, timer.failed, timer.missed];
        let counts = counts.map(|count| count.to_string());
        Row::new([timer.name.clone(), due].into_iter().chain(counts))
    });
    let widths = [24, 9, 8, 10, 8, 8].map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths).header(header), area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    if area.height < 3 {
        return;
    }
    let area = below(area);
    let first = Line::from("EVENTS").dim();
    let events = model.events.iter().rev().take(area.height as usize - 1);
    let lines = events.map(
        |Event {
             time, event, text, ..
         }| {
            // `2026-01-31T12:00:00.123Z`
            let time = time.get(11..19).unwrap_or(time).to_owned();
            let kind = format!("{event:<9}");
            Line::from(vec![
                Span::from(time).dim(),
                Span::from(" "),
                Span::from(kind).style(mood(event)),
                Span::from(" "),
                Span::from(text.clone()),
            ])
        },
    );
    let lines: Vec<Line<'_>> = std::iter::once(first).chain(lines).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// Without its first line.
fn below(area: Rect) -> Rect {
    Rect {
        y: area.y + 1,
        height: area.height - 1,
        ..area
    }
}

fn mood(word: &str) -> Style {
    let color = match word {
        "ready" | "serving" => Color::Green,
        "blocked" | "killed" | "backoff" | "vacant" | "failed" => Color::Red,
        "starting" | "draining" | "going" | "stopping" | "waiting" | "roll" | "scale" => {
            Color::Yellow
        }
        _ => return Style::new(),
    };
    Style::new().fg(color)
}

/// `12s`, `5m 3s`, `2h 10m`, `3d 4h`.
fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::model::{Act, Address, Numbers, Worker as Row};

    fn shown(width: u16, height: u16, model: &Model) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer();
        let rows = (0..height).map(|y| {
            let row: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            row.trim_end().to_owned() + "\n"
        });
        rows.collect()
    }

    fn model() -> Model {
        let row = |index: usize, total| Row {
            name: format!("worker {index}"),
            index: Some(index),
            pid: Some(4712 + index as u32),
            generation: Some(1),
            state: "ready".to_owned(),
            answers: true,
            since: Some(75.0),
            connections_open: Some(12),
            connections_total: Some(total),
            busy_percent: Some(42.4),
            loop_lag: Some(0.0003),
            memory: Some(8_598_323),
            tasks: Some(14),
            last_failure: (index == 1).then(|| "killed by SIGKILL".to_owned()),
            ..Row::default()
        };
        let seen = |total| Seen {
            server: Server {
                name: "echo".to_owned(),
                pid: 4711,
                uptime: 7260.0,
                state: "serving".to_owned(),
                isolation: "process".to_owned(),
                workers: Numbers {
                    ready: 2,
                    wanted: 2,
                    most: 8,
                },
                roll: None,
                addresses: vec![Address {
                    address: "127.0.0.1:8888".to_owned(),
                }],
            },
            workers: vec![row(0, total), row(1, 0)],
            timers: [3.0, 2.0]
                .map(|due| Timer {
                    name: "heartbeat".to_owned(),
                    next_due_in: Some(due),
                    completed: 5,
                    ..Timer::default()
                })
                .to_vec(),
        };
        let mut model = Model::default();
        model.look(seen(0), Duration::ZERO);
        model.look(seen(20), Duration::from_secs(1));
        model.look(seen(30), Duration::from_secs(2));
        model.happened(Event {
            number: 1,
            time: "2026-01-31T12:00:00.123Z".to_owned(),
            event: "ready".to_owned(),
            text: "all workers are ready".to_owned(),
        });
        model
    }

    #[test]
    fn what_is_missing_of_a_list_is_no_timer() {
        let missing = Timer {
            left_out: Some(0),
            ..Timer::default()
        };
        assert_eq!(by_name(&[missing]), []);
    }

    #[test]
    fn a_wide_terminal_shows_all_of_it() {
        assert_eq!(
            shown(140, 14, &model()),
            "\
echo  pid 4711  serving  up 2h 1m
2 of 2 ready, at most 8  process workers  127.0.0.1:8888

WORKER     PID     GEN  STATE      SINCE    PER SECOND         OPEN   BUSY  LAG      MEMORY    TASKS  RESTARTS LAST FAILURE
worker 0   4712    1    ready      1m 15s      10.0 █▅         12     42%   0.3ms    8.2M      14     0        -
worker 1   4713    1    ready      1m 15s       0.0 ▁▁         12     42%   0.3ms    8.2M      14     0        killed by SIGKILL

TIMER                    DUE IN    RUNNING  COMPLETED  FAILED   MISSED
heartbeat                2.0s      0        10         0        0

EVENTS
12:00:00 ready     all workers are ready

q quit   r restart   l reload   s + - scale   ↑ ↓ choose
"
        );
    }

    #[test]
    fn a_narrow_one_shows_what_matters_most() {
        let shown = shown(60, 8, &model());
        let table: Vec<&str> = shown.lines().skip(3).take(2).collect();
        assert_eq!(
            table,
            [
                "WORKER     STATE      PER SECOND         OPEN   BUSY",
                "worker 0   ready         10.0 █▅         12     42%",
            ]
        );
    }

    #[test]
    fn columns_fit_or_are_the_last_two() {
        for width in 0..200 {
            for has_memory in [false, true] {
                let columns = columns(width, has_memory);
                let taken: u16 = columns.iter().map(|(_, _, width)| width + 1).sum();
                assert!(taken <= width + 1 || columns.len() == 2, "{width}");
            }
        }
        assert_eq!(columns(200, true).len(), COLUMNS.len());
        assert_eq!(columns(200, false).len(), COLUMNS.len() - 1);
    }

    #[test]
    fn questions_notes_and_absence_are_told() {
        let mut model = model();
        model.question = Some(Question::Sure(Act::Restart("1".to_owned())));
        assert!(shown(80, 12, &model).ends_with("restart 1? y/n\n"));
        model.question = Some(Question::Number("4".to_owned()));
        assert!(shown(80, 12, &model).contains("number of workers, 1 to 8: 4_"));
        model.note = Some(Note::Done("restarted".to_owned()));
        assert!(shown(80, 12, &model).contains("\nrestarted\n"));
        model.away = Some("gone".to_owned());
        assert!(shown(80, 12, &model).contains("can't be reached: gone"));
        model.seen = None;
        assert!(shown(80, 12, &model).starts_with("gone\n"));
        // However small it is.
        for (width, height) in [(1, 1), (10, 2), (20, 5)] {
            shown(width, height, &self::model());
        }
    }

    #[test]
    fn bars_are_in_proportion_to_the_highest() {
        assert_eq!(bars(&[0.0, 1.0, 2.0, 4.0], 3), "▃▅█");
        assert_eq!(bars(&[0.0, 0.0], 10), "▁▁");
        assert_eq!(bars(&[], 10), "");
    }
}
