//! What `aioxide top` knows, and what keys do with it: without a terminal, a socket or a clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde::Deserialize;

/// How many samples of a worker are kept.
const SAMPLES: usize = 60;
/// How many events are kept.
const EVENTS: usize = 100;

/// What a server says of itself, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) uptime: f64,
    pub(crate) state: String,
    pub(crate) isolation: String,
    pub(crate) workers: Numbers,
    pub(crate) roll: Option<Roll>,
    pub(crate) addresses: Vec<Address>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Numbers {
    pub(crate) ready: usize,
    pub(crate) wanted: usize,
    pub(crate) most: usize,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Roll {
    pub(crate) of: String,
    pub(crate) remaining: usize,
    pub(crate) draining: usize,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Address {
    pub(crate) address: String,
}

/// A worker, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) index: Option<usize>,
    pub(crate) pid: Option<u32>,
    pub(crate) generation: Option<u64>,
    pub(crate) state: String,
    pub(crate) since: Option<f64>,
    pub(crate) retry_in: Option<f64>,
    pub(crate) answers: bool,
    pub(crate) connections_open: Option<u64>,
    pub(crate) connections_total: Option<u64>,
    /// Of one that serves HTTP.
    pub(crate) requests_total: Option<u64>,
    pub(crate) busy_percent: Option<f64>,
    pub(crate) loop_lag: Option<f64>,
    pub(crate) tasks: Option<u64>,
    pub(crate) memory: Option<u64>,
    pub(crate) restarts: u64,
    pub(crate) last_failure: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Timer {
    pub(crate) name: String,
    pub(crate) next_due_in: Option<f64>,
    pub(crate) running: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) missed: u64,
    /// Of a row that is no timer, but stands for those of a worker that are missing.
    pub(crate) left_out: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) time: String,
    pub(crate) event: String,
    pub(crate) text: String,
}

/// All that is seen at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) server: Server,
    pub(crate) workers: Vec<Worker>,
    pub(crate) timers: Vec<Timer>,
}

/// What is asked of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// By its index, or the name of an extra.
    Restart(String),
    Reload,
    Scale(usize),
}

impl Act {
    pub(crate) fn words(&self) -> Vec<String> {
        match self {
            Act::Restart(worker) => vec!["restart".to_owned(), worker.clone()],
            Act::Reload => vec!["reload".to_owned()],
            Act::Scale(number) => vec!["scale".to_owned(), number.to_string()],
        }
    }
}

/// What is to be done for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Quit,
    Act(Act),
}

/// What has to be answered first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Sure(Act),
    /// What has been typed of the number of workers.
    Number(String),
}

/// What became of an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Going(String),
    Done(String),
    Failed(String),
}

/// The figures of a worker that are counted, at one time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    total: Option<u64>,
    rate: Option<f64>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) seen: Option<Seen>,
    /// Why it can't be seen now.
    pub(crate) away: Option<String>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) question: Option<Question>,
    pub(crate) note: Option<Note>,
    /// The row with this number is chosen.
    pub(crate) selected: usize,
    samples: BTreeMap<String, VecDeque<Sample>>,
}

impl Model {
    pub(crate) fn look(&mut self, seen: Seen, now: Duration) {
        self.away = None;
        let pid = self.seen.as_ref().map(|seen| seen.server.pid);
        if pid.is_some_and(|pid| pid != seen.server.pid) {
            self.samples.clear();
            self.events.clear();
        }
        self.samples
            .retain(|name, _| seen.workers.iter().any(|worker| worker.name == *name));
        let current = |worker: &&Worker| is_current(worker, &seen.workers);
        for worker in seen.workers.iter().filter(current) {
            let samples = self.samples.entry(worker.name.clone()).or_default();
            let total = worker.requests_total.or(worker.connections_total);
            let rate = samples.back().and_then(|last| {
                let grown = total?.checked_sub(last.total?)?;
                let span = now.checked_sub(last.at)?.as_secs_f64();
                (span > 0.0).then(|| grown as f64 / span)
            });
            samples.push_back(Sample {
                at: now,
                total,
                rate,
            });
            if samples.len() > SAMPLES {
                samples.pop_front();
            }
        }
        self.selected = self.selected.min(seen.workers.len().saturating_sub(1));
        self.seen = Some(seen);
    }

    pub(crate) fn happened(&mut self, event: Event) {
        // Whoever follows again is told from the beginning.
        if self
            .events
            .back()
            .is_some_and(|last| event.number <= last.number)
        {
            return;
        }
        self.events.push_back(event);
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }

    /// Connections or requests a second of a worker, the newest last.
    pub(crate) fn rates(&self, worker: &Worker) -> Vec<f64> {
        let workers = self.seen.as_ref().map_or(&[][..], |seen| &seen.workers);
        let samples = is_current(worker, workers).then(|| self.samples.get(&worker.name));
        let samples = samples.flatten().into_iter().flatten();
        samples.filter_map(|sample| sample.rate).collect()
    }

    pub(crate) fn key(&mut self, key: KeyEvent) -> Option<Effect> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c')).then_some(Effect::Quit);
        }
        match self.question.take() {
            Some(Question::Sure(act)) => match key.code {
                KeyCode::Char('y' | 'Y') | KeyCode::Enter => Some(self.begin(act)),
                // Everything else is a no.
                _ => None,
            },
            Some(Question::Number(mut typed)) => {
                match key.code {
                    KeyCode::Enter => {
                        let number = typed.parse().ok()?;
                        return Some(self.begin(Act::Scale(number)));
                    }
                    KeyCode::Esc => return None,
                    KeyCode::Char(digit @ '0'..='9') if typed.len() < 5 => typed.push(digit),
                    KeyCode::Backspace => drop(typed.pop()),
                    _ => {}
                }
                self.question = Some(Question::Number(typed));
                None
            }
            None => self.command(key.code),
        }
    }

    fn command(&mut self, code: KeyCode) -> Option<Effect> {
        let last = self
            .seen
            .as_ref()
            .map_or(0, |seen| seen.workers.len().saturating_sub(1));
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Effect::Quit),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.selected = last.min(self.selected + 1),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            KeyCode::Char('r') => {
                let worker = self.seen.as_ref()?.workers.get(self.selected)?;
                let name = match worker.index {
                    Some(index) => index.to_string(),
                    None => worker.name.clone(),
                };
                self.question = Some(Question::Sure(Act::Restart(name)));
            }
            KeyCode::Char('l') => self.question = Some(Question::Sure(Act::Reload)),
            KeyCode::Char('s') => self.question = Some(Question::Number(String::new())),
            KeyCode::Char(sign @ ('+' | '-')) => {
                let Numbers { wanted, most, .. } = self.seen.as_ref()?.server.workers;
                let number = match sign {
                    '+' => (wanted + 1).min(most),
                    _ => wanted.saturating_sub(1).max(1),
                };
                if number != wanted {
                    self.question = Some(Question::Sure(Act::Scale(number)));
                }
            }
            _ => {}
        }
        None
    }

    fn begin(&mut self, act: Act) -> Effect {
        self.note = Some(Note::Going(act.words().join(" ")));
        Effect::Act(act)
    }
}

/// It stands for its slot, and makes no room for another one.
fn is_current(worker: &Worker, all: &[Worker]) -> bool {
    let rank = |worker: &Worker| match &*worker.state {
        "ready" | "blocked" => (2, worker.generation),
        "draining" => (0, worker.generation),
        _ => (1, worker.generation),
    };
    let others = all.iter().filter(|other| other.name == worker.name);
    worker.pid.is_some()
        && others
            .map(rank)
            .max()
            .is_none_or(|best| best <= rank(worker))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(name: &str, index: Option<usize>, total: u64) -> Worker {
        Worker {
            name: name.to_owned(),
            index,
            pid: Some(7),
            state: "ready".to_owned(),
            connections_total: Some(total),
            ..Worker::default()
        }
    }

    fn seen(total: u64) -> Seen {
        Seen {
            server: Server {
                pid: 1,
                workers: Numbers {
                    ready: 1,
                    wanted: 1,
                    most: 2,
                },
                ..Server::default()
            },
            workers: vec![
                worker("worker 0", Some(0), total),
                worker("exporter", None, 0),
            ],
            timers: Vec::new(),
        }
    }

    fn model() -> Model {
        let mut model = Model::default();
        model.look(seen(0), Duration::ZERO);
        model
    }

    fn press(model: &mut Model, keys: &str) -> Option<Effect> {
        let codes = keys.chars().map(|key| match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            key => KeyCode::Char(key),
        });
        codes.fold(None, |_, code| model.key(KeyEvent::from(code)))
    }

    #[test]
    fn acts_are_confirmed() {
        let restart = |worker: &str| Some(Effect::Act(Act::Restart(worker.to_owned())));
        assert_eq!(press(&mut model(), "r"), None);
        assert_eq!(press(&mut model(), "ry"), restart("0"));
        assert_eq!(press(&mut model(), "jr\n"), restart("exporter"));
        assert_eq!(press(&mut model(), "jjjkr\n"), restart("0"));
        assert_eq!(press(&mut model(), "ly"), Some(Effect::Act(Act::Reload)));
        let mut model = model();
        assert_eq!(press(&mut model, "ln"), None);
        assert_eq!((&model.question, &model.note), (&None, &None));
    }

    #[test]
    fn scale_takes_a_number_or_a_sign() {
        let scale = |number| Some(Effect::Act(Act::Scale(number)));
        assert_eq!(press(&mut model(), "s12\n"), scale(12));
        assert_eq!(press(&mut model(), "sx3\n"), scale(3));
        assert_eq!(press(&mut model(), "s\n"), None);
        assert_eq!(press(&mut model(), "s3\u{1b}\n"), None);
        assert_eq!(press(&mut model(), "+y"), scale(2));
        // It is the least already.
        assert_eq!(press(&mut model(), "-y"), None);
    }

    #[test]
    fn quitting_needs_no_confirmation() {
        assert_eq!(press(&mut model(), "q"), Some(Effect::Quit));
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let mut asked = model();
        press(&mut asked, "l");
        assert_eq!(asked.key(control_c), Some(Effect::Quit));
        // It only answers the question.
        let mut asked = model();
        assert_eq!(press(&mut asked, "lq"), None);
    }

    #[test]
    fn rates_are_those_of_a_slot() {
        let mut model = model();
        model.look(seen(10), Duration::from_secs(2));
        let row = worker("worker 0", Some(0), 0);
        assert_eq!(model.rates(&row), [5.0]);
        // Counted anew.
        model.look(seen(4), Duration::from_secs(3));
        model.look(seen(6), Duration::from_secs(4));
        assert_eq!(model.rates(&row), [5.0, 2.0]);
        let mut rolled = seen(6);
        let mut successor = row.clone();
        successor.generation = Some(1);
        successor.state = "starting".to_owned();
        rolled.workers.push(successor.clone());
        model.look(rolled.clone(), Duration::from_secs(5));
        assert_eq!(model.rates(&row).len(), 3);
        assert!(model.rates(&successor).is_empty());
        rolled.workers[0].state = "draining".to_owned();
        rolled.workers[2].state = "ready".to_owned();
        rolled.workers[2].connections_total = Some(10);
        model.look(rolled.clone(), Duration::from_secs(6));
        assert!(model.rates(&rolled.workers[0]).is_empty());
        assert_eq!(model.rates(&rolled.workers[2]), [5.0, 2.0, 0.0, 4.0]);
        let mut another = seen(6);
        another.server.pid = 2;
        model.look(another, Duration::from_secs(7));
        assert!(model.rates(&row).is_empty());
    }

    #[test]
    fn an_event_is_told_once_and_the_last_are_kept() {
        let mut model = model();
        let event = |number| Event {
            number,
            ..Event::default()
        };
        for number in (1..=150).chain(1..=151) {
            model.happened(event(number));
        }
        let numbers: Vec<u64> = model.events.iter().map(|event| event.number).collect();
        assert_eq!(numbers, (52..=151).collect::<Vec<_>>());
    }
}
