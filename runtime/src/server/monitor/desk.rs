//! Carries out commands: asks the supervisor, and puts together what it says.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::about::About;
use super::figures::{Known, Told};
use super::log;
use super::metrics;
use super::reply::{
    self, Address, Event, Held, Help, Numbers, Ran, Refused, Reply, Roll, Row, Server, Tasks,
    Worker,
};
use super::vocabulary::{Command, KNOWN, nearest};
use crate::server::line::{self, CommandRow, Query, Role, Rows, TimerAct};
use crate::server::supervisor::{Act, Entry, Place, Step, View, Watcher, WorkerId, WorkerView};
use crate::server::{Isolation, report};

/// What the supervisor gets to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How many clients may follow what happens.
const FOLLOWERS: usize = 16;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) uid: u32,
    pub(super) pid: Option<i32>,
}

pub(super) struct Desk {
    pub(super) about: About,
    pub(super) watcher: Watcher,
    pub(super) told: Told,
    started: SystemTime,
    /// What is being done for somebody.
    acting: RefCell<Option<String>>,
    followers: Cell<usize>,
}

/// A reply, or what leads to it.
pub(super) enum Given {
    Reply(Reply),
    /// Lines to come, before the reply: those of an act, for text only.
    Acting(mpsc::UnboundedReceiver<Progress>),
    /// Events without an end.
    Following(Following),
}

/// How far an act has come.
pub(super) enum Progress {
    Step(String),
    Done(Result<Reply, Refused>),
}

/// A follower's place, and how far it has read.
pub(super) struct Following {
    desk: Rc<Desk>,
    read: u64,
}

impl Desk {
    pub(super) fn new(about: About, watcher: Watcher) -> Rc<Desk> {
        Rc::new(Desk {
            about,
            told: Told::new(watcher.clone()),
            watcher,
            started: SystemTime::now(),
            acting: RefCell::default(),
            followers: Cell::new(0),
        })
    }

    pub(super) async fn view(&self) -> Result<View, Refused> {
        match timeout(ANSWER, self.watcher.view()).await {
            Ok(Some(view)) => Ok(view),
            Ok(None) => Err(Refused::unavailable("the server has ended")),
            Err(_) => Err(Refused::unavailable(format!(
                "the supervisor has not answered within {ANSWER:?}"
            ))),
        }
    }

    /// Until the server has ended.
    pub(super) async fn ended(&self) {
        self.watcher.ended().await;
    }

    pub(super) async fn carry_out(
        self: &Rc<Desk>,
        command: Command,
        asker: Asker,
    ) -> Result<Given, Refused> {
        let line = command.line();
        let reply = match command {
            Command::Help => self.help().await,
            Command::Server => self.server().await?,
            Command::Workers => self.workers().await?,
            Command::Connections(of) => self.connections(of).await?,
            Command::Timers => self.timers().await?,
            Command::Contexts => self.contexts().await?,
            Command::Tasks => self.tasks().await?,
            Command::Timer { name, act } => {
                self.log_act(asker, &line);
                self.timer(name, act).await?
            }
            Command::Metrics => {
                let view = self.view().await?;
                Reply::Metrics {
                    metrics: self.metrics(&view).await,
                }
            }
            Command::Log { filter, worker } => self.log(&line, &filter, worker, asker).await?,
            Command::Run { name, args, worker } => {
                let view = self.view().await?;
                let role = worker
                    .map(|worker| Ok::<_, Refused>(place(&view, &worker)?.role))
                    .transpose()?;
                self.log_act(asker, &line);
                let (tell, progress) = mpsc::unbounded_channel();
                let desk = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    let done = desk.run(&view, name, args, role).await;
                    // Whoever has asked may be gone.
                    let _ = tell.send(Progress::Done(done));
                });
                return Ok(Given::Acting(progress));
            }
            Command::Events { follow: false } => {
                let entries = self.watcher.journal.since(0);
                Reply::Events(entries.iter().map(|entry| Event::from(&**entry)).collect())
            }
            Command::Events { follow: true } => return self.follow().map(Given::Following),
            asked @ (Command::Drain | Command::Stop) => {
                let act = match asked {
                    Command::Drain => Act::Drain,
                    _ => Act::Stop,
                };
                self.log_act(asker, &line);
                self.act(act).await?;
                Reply::Accepted {
                    accepted: "accepted: the server stops; this connection ends when it has"
                        .to_owned(),
                }
            }
            Command::Upgrade => {
                return self.begin(line, Act::Upgrade, asker).await;
            }
            Command::Reload => return self.begin(line, Act::Reload, asker).await,
            Command::Scale(number) => {
                let view = self.view().await?;
                if !(1..=view.most).contains(&number) {
                    return Err(Refused::wrong(format!(
                        "the number of workers is 1 to {}, not {number}",
                        view.most
                    )));
                }
                if number == view.wanted && number == view.target {
                    Reply::Done {
                        done: format!("the number of workers is {number} already"),
                    }
                } else {
                    let act = Act::Scale(number);
                    return self.begin(line, act, asker).await;
                }
            }
            Command::Restart(worker) => {
                let view = self.view().await?;
                let place = place(&view, &worker)?;
                if place.out {
                    return Err(Refused::wrong(format!("{} is vacant for good", place.name)));
                }
                let act = Act::Restart(place.role);
                return self.begin(line, act, asker).await;
            }
        };
        Ok(Given::Reply(reply))
    }

    fn log_act(&self, asker: Asker, what: &str) {
        let Asker { uid, pid } = asker;
        // What others have said must not look like a line of its own.
        let what = what.replace(char::is_control, " ");
        report::log!(
            info,
            uid,
            pid,
            "monitor: `{what}` is asked for by uid {uid}"
        );
    }

    async fn act(&self, act: Act) -> Result<u64, Refused> {
        match timeout(ANSWER, self.watcher.act(act)).await {
            Ok(Some(before)) => Ok(before),
            Ok(None) => Err(Refused::unavailable("the server has ended")),
            Err(_) => Err(Refused::unavailable(format!(
                "the supervisor has not answered within {ANSWER:?}; it acts when it can"
            ))),
        }
    }

    /// Acts, one at a time, and goes on with it when the client goes away.
    async fn begin(
        self: &Rc<Desk>,
        what: String,
        act: Act,
        asker: Asker,
    ) -> Result<Given, Refused> {
        // Before anything is waited for: meanwhile others ask.
        let acting = self.claim(&what)?;
        let view = self.view().await?;
        if view.going {
            return Err(Refused::unavailable("the server is stopping"));
        }
        self.log_act(asker, &what);
        let mut newest = self.watcher.journal.watch();
        let before = self.act(act).await?;
        let (tell, progress) = mpsc::unbounded_channel();
        tokio::task::spawn_local(async move {
            let desk = &acting.0;
            let (mut read, mut awaited) = (before, Awaited::new(act));
            let done = loop {
                // Before the journal is read: what it says that has led to this view is there then.
                let view = match act {
                    Act::Scale(_) => desk.view().await.ok(),
                    _ => None,
                };
                let mut done = None;
                for entry in desk.watcher.journal.since(read) {
                    read = entry.number;
                    // Nobody needs to listen.
                    let _ = tell.send(Progress::Step(entry.text.clone()));
                    done = awaited.happened(&entry);
                    if done.is_some() {
                        break;
                    }
                }
                done = done.or_else(|| awaited.looks(&view?));
                match done {
                    Some(done) => break done,
                    // It goes with the server.
                    None if newest.changed().await.is_err() => return,
                    None => {}
                }
            };
            drop(acting);
            let _ = tell.send(Progress::Done(done));
        });
        Ok(Given::Acting(progress))
    }

    /// Nobody else acts until it is dropped.
    fn claim(self: &Rc<Desk>, what: &str) -> Result<Acting, Refused> {
        let mut acting = self.acting.borrow_mut();
        if let Some(running) = &*acting {
            return Err(Refused::busy(format!(
                "`{running}` is under way; try again when it is done"
            )));
        }
        *acting = Some(what.to_owned());
        Ok(Acting(Rc::clone(self)))
    }

    fn follow(self: &Rc<Desk>) -> Result<Following, Refused> {
        if self.followers.get() >= FOLLOWERS {
            return Err(Refused::busy(format!(
                "{FOLLOWERS} clients follow already, and no more may"
            )));
        }
        self.followers.set(self.followers.get() + 1);
        Ok(Following {
            desk: Rc::clone(self),
            read: 0,
        })
    }

    /// Another filter for the log of a worker, or of the whole server.
    async fn log(
        &self,
        line: &str,
        filter: &str,
        worker: Option<String>,
        asker: Asker,
    ) -> Result<Reply, Refused> {
        log::check(filter)?;
        let threads = self.about.isolation == Isolation::Thread;
        if threads && worker.is_some() {
            return Err(Refused::wrong(
                "the workers are threads of one process, which has one filter: leave out the worker",
            ));
        }
        let view = self.view().await?;
        let role = worker
            .as_deref()
            .map(|worker| place(&view, worker).map(|place| place.role));
        let role = role.transpose()?;
        self.log_act(asker, line);
        if role.is_none() {
            log::change(filter)?;
        }
        if threads {
            return Ok(logs(filter, "the server"));
        }
        let asked = |worker: &WorkerView| role.is_none_or(|role| worker.role == role);
        let told: Vec<(_, Option<line::Ran>)> = self
            .told
            .ask(&view, asked, &Query::Log(filter.to_owned()))
            .await;
        let mut failed = Vec::new();
        for (worker, told) in &told {
            let why = match told {
                Some(line::Ran::Failed(why)) => why,
                Some(_) => continue,
                None => "it does not answer",
            };
            failed.push(format!("{}: {why}", name_of(&view, worker.role)));
        }
        if told.is_empty() && role.is_some() {
            failed.push(format!("{}: it does not run", worker.unwrap_or_default()));
        }
        match (failed.is_empty(), role) {
            (false, _) => Err(Refused::failed(failed.join("\n"))),
            (true, Some(role)) => Ok(logs(filter, &name_of(&view, role))),
            (true, None) => Ok(logs(filter, "the server")),
        }
    }

    async fn server(&self) -> Result<Reply, Refused> {
        let view = self.view().await?;
        let name_of = |role| name_of(&view, role);
        let executable = std::env::current_exe().unwrap_or_default();
        let uptime = self.started.elapsed().unwrap_or_default();
        Ok(Reply::Server(Box::new(Server {
            name: self.about.name.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            executable: executable.to_string_lossy().into_owned(),
            started: reply::at(self.started),
            uptime: uptime.as_secs_f64(),
            state: match view.state {
                "serving" if view.going => "going",
                state => state,
            },
            isolation: self.about.isolation.to_string(),
            workers: Numbers {
                ready: ready(&view),
                wanted: view.wanted,
                most: view.most,
            },
            roll: view.roll.as_ref().map(|roll| Roll {
                of: roll.only.map_or("all".to_owned(), name_of),
                remaining: roll.remaining,
                draining: roll.draining,
            }),
            addresses: view
                .sockets
                .iter()
                .map(|socket| Address {
                    address: socket.address.clone(),
                    sockets: socket
                        .held
                        .iter()
                        .map(|(role, state)| Held {
                            of: name_of(*role),
                            state: state.clone(),
                        })
                        .collect(),
                })
                .collect(),
            options: self.about.options.clone(),
        })))
    }

    async fn workers(&self) -> Result<Reply, Refused> {
        let view = self.view().await?;
        let known = self.told.look(&view).await;
        Ok(Reply::Workers(self.rows(&view, &known)))
    }

    /// In Prometheus' text format.
    pub(super) async fn metrics(&self, view: &View) -> String {
        let known = self.told.look(view).await;
        let of_process = |worker: &WorkerView| match self.about.isolation {
            Isolation::Process => resident(worker.pid),
            Isolation::Thread => None,
        };
        let memory = view
            .workers
            .iter()
            .filter_map(|worker| Some((worker.role, of_process(worker)?)));
        let memory = memory.collect();
        let own = resident(std::process::id());
        let sample = metrics::Sample {
            about: &self.about,
            view,
            ready: ready(view),
            known: &known,
            totals: &self.told.totals(),
            memory: &memory,
            own,
            teardowns: match self.about.isolation {
                Isolation::Thread => Some(crate::teardown::stats()),
                Isolation::Process => None,
            },
        };
        metrics::text(&sample)
    }

    async fn connections(&self, of: Option<String>) -> Result<Reply, Refused> {
        let view = self.view().await?;
        let role = of
            .map(|of| Ok::<_, Refused>(place(&view, &of)?.role))
            .transpose()?;
        let asked = |worker: &WorkerView| role.is_none_or(|role| worker.role == role);
        let rows = self.rows_of(&view, asked, &Query::Connections).await;
        Ok(Reply::Connections(rows))
    }

    async fn timers(&self) -> Result<Reply, Refused> {
        let view = self.view().await?;
        let rows = self.rows_of(&view, |_| true, &Query::Timers).await;
        Ok(Reply::Timers(rows))
    }

    async fn contexts(&self) -> Result<Reply, Refused> {
        let view = self.view().await?;
        let rows = self.rows_of(&view, |_| true, &Query::Contexts).await;
        Ok(Reply::Contexts(rows))
    }

    async fn tasks(&self) -> Result<Reply, Refused> {
        let view = self.view().await?;
        let told: Vec<(_, Option<line::Tasks>)> = self
            .told
            .ask_at_length(&view, |_| true, &Query::Tasks)
            .await;
        let mut tasks = Tasks::default();
        for (worker, told) in told {
            let name = name_of(&view, worker.role);
            tasks.add(&name, told);
        }
        tasks.sort();
        Ok(Reply::Tasks(tasks))
    }

    /// What workers answer to a query of which the answer is a list.
    async fn rows_of<T: DeserializeOwned + Default>(
        &self,
        view: &View,
        asked: impl Fn(&WorkerView) -> bool,
        query: &Query,
    ) -> Vec<Row<T>> {
        let told: Vec<(_, Option<Rows<T>>)> = self.told.ask_at_length(view, asked, query).await;
        let told = told.into_iter();
        reply::rows(told.map(|(worker, told)| (name_of(view, worker.role), told)))
    }

    async fn timer(&self, name: String, act: TimerAct) -> Result<Reply, Refused> {
        let view = self.view().await?;
        let query = Query::Timer {
            name: name.clone(),
            act,
        };
        let told: Vec<(_, Option<usize>)> = self.told.ask(&view, |_| true, &query).await;
        let told = told.into_iter();
        timers_told(
            &name,
            act,
            told.map(|(worker, number)| (name_of(&view, worker.role), number)),
        )
    }

    /// The program's own commands, of all workers.
    async fn commands(&self, view: &View) -> BTreeSet<CommandRow> {
        let told: Vec<(_, Option<Rows<CommandRow>>)> =
            self.told.ask(view, |_| true, &Query::Commands).await;
        told.into_iter()
            .filter_map(|(_, commands)| commands)
            .flat_map(|commands| commands.into_parts().0)
            .collect()
    }

    async fn run(
        &self,
        view: &View,
        name: String,
        args: Vec<String>,
        role: Option<Role>,
    ) -> Result<Reply, Refused> {
        let query = Query::Run {
            name: name.clone(),
            args,
        };
        let asked = |worker: &WorkerView| {
            worker.state != "draining" && role.is_none_or(|role| worker.role == role)
        };
        let told: Vec<(_, Option<line::Ran>)> = self.told.ask(view, asked, &query).await;
        let (mut ran, mut failed) = (Vec::new(), Vec::new());
        for (worker, told) in told {
            let worker = name_of(view, worker.role);
            match told {
                Some(line::Ran::Output(output)) => ran.push(Ran { worker, output }),
                Some(line::Ran::Failed(error)) => failed.push(format!("{worker}: {error}")),
                Some(line::Ran::Unknown) => {}
                None => failed.push(format!("{worker}: it does not answer")),
            }
        }
        if !failed.is_empty() {
            failed.extend(
                ran.iter()
                    .map(|ran| format!("{}: {}", ran.worker, ran.output)),
            );
            return Err(Refused::failed(failed.join("\n")));
        }
        if ran.is_empty() {
            let commands = self.commands(view).await;
            let names = || commands.iter().map(|command| command.name.as_str());
            let near = nearest(&name, names());
            let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let names: Vec<&str> = names().collect();
            let all = match names.is_empty() {
                true => "it has none".to_owned(),
                false => format!("there are {}", names.join(", ")),
            };
            return Err(Refused::unknown(format!(
                "the program has no command `{name}`: {all}{near}"
            )));
        }
        Ok(Reply::Ran(ran))
    }

    async fn help(&self) -> Reply {
        let known = KNOWN.iter().map(|known| Help {
            command: known.word.to_owned(),
            alias: known.alias,
            arguments: known.arguments,
            does: known.does.to_owned(),
            acts: known.acts,
        });
        let mut commands: Vec<Help> = known.collect();
        if let Ok(view) = self.view().await {
            let own = self.commands(&view).await.into_iter();
            commands.extend(own.map(|command| Help {
                command: format!("run {}", command.name),
                alias: None,
                arguments: "",
                does: command.does,
                acts: true,
            }));
        }
        Reply::Help(commands)
    }

    /// A row for each worker, and for each place that is vacant.
    fn rows(&self, view: &View, known: &BTreeMap<WorkerId, Known>) -> Vec<Worker> {
        let totals = self.told.totals();
        let total = |role: Role| {
            let of = totals
                .iter()
                .filter(|((key, of), _)| *of == role && key.name == "connections");
            of.map(|(_, value)| *value as u64).sum()
        };
        let alive = view.workers.iter();
        let mut rows: Vec<(Role, Worker)> = alive
            .map(|worker| {
                (
                    worker.role,
                    self.row(view, worker, known.get(&worker.id), total(worker.role)),
                )
            })
            .collect();
        let filled: BTreeSet<Role> = rows.iter().map(|(role, _)| *role).collect();
        for place in view
            .places
            .iter()
            .filter(|place| !filled.contains(&place.role))
        {
            let state = match (place.out, place.retry_in) {
                (true, _) => "vacant",
                (false, Some(_)) => "backoff",
                (false, None) => "waiting",
            };
            let mut row = vacant_row(place, state);
            row.retry_in = place.retry_in.map(|retry| retry.as_secs_f64());
            rows.push((place.role, row));
        }
        rows.sort_by_key(|(role, row)| (*role, row.generation));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn row(
        &self,
        view: &View,
        worker: &WorkerView,
        known: Option<&Known>,
        connections_total: u64,
    ) -> Worker {
        let place = view.places.iter().find(|place| place.role == worker.role);
        let mut row = match place {
            Some(place) => vacant_row(place, worker.state),
            // Its slot is one too many by now.
            None => Worker {
                name: name_of(view, worker.role),
                index: worker.role.index(),
                state: worker.state,
                ..Worker::default()
            },
        };
        row.pid = Some(worker.pid);
        row.generation = Some(worker.generation);
        row.image = Some(worker.image);
        if worker.blocked && worker.state == "ready" {
            row.state = "blocked";
        }
        row.since = Some(worker.since.as_secs_f64());
        row.asked = worker.turning;
        if let Some(known) = known {
            row.answers = known.answers;
            row.busy_percent = known.busy.map(|share| share * 100.0);
            if let Some(figures) = &known.figures {
                row.connections_open = Some(figures.connections_open);
                row.connections_total = Some(connections_total);
                row.tasks = Some(figures.tasks);
                row.timers = Some(figures.timers);
                row.contexts_open = Some(figures.contexts_open);
                row.teardowns_pending = Some(figures.teardowns_pending);
            }
        }
        row.loop_lag = worker.lag.map(|lag| lag.as_secs_f64());
        row.memory = match self.about.isolation {
            Isolation::Process => resident(worker.pid),
            // That of all of them together.
            Isolation::Thread => None,
        };
        row
    }
}

/// What became of an act on all timers of a name: how many each worker has, none where it doesn't answer.
fn timers_told(
    name: &str,
    act: TimerAct,
    told: impl Iterator<Item = (String, Option<usize>)>,
) -> Result<Reply, Refused> {
    let (mut number, mut lines) = (0, Vec::new());
    for (worker, told) in told {
        match told {
            Some(told) => number += told,
            None => lines.push(format!("{worker}: it does not answer, and may do it later")),
        }
    }
    let what = match act {
        TimerAct::Trigger => "triggered",
        TimerAct::Pause => "paused",
        TimerAct::Resume => "resumed",
    };
    let done = match number {
        0 => None,
        1 => Some(format!("1 timer is {what}")),
        _ => Some(format!("{number} timers are {what}")),
    };
    match (lines.is_empty(), done) {
        (true, Some(done)) => Ok(Reply::Done { done }),
        (true, None) => Err(Refused::unknown(format!(
            "there is no timer `{name}`; `timers` lists them"
        ))),
        (false, done) => {
            lines.extend(done);
            Err(Refused::failed(lines.join("\n")))
        }
    }
}

/// What became of a change of the filter.
fn logs(filter: &str, of: &str) -> Reply {
    Reply::Done {
        done: format!("{of} logs `{filter}`"),
    }
}

/// The resident set of a process.
pub(super) fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn vacant_row(place: &Place, state: &'static str) -> Worker {
    let last = place.last_failure.as_ref();
    Worker {
        name: place.name.clone(),
        index: place.role.index(),
        state,
        restarts: place.restarts,
        failures: place.failures,
        last_failure: last.map(|(_, cause)| cause.clone()),
        last_failure_at: last.map(|(at, _)| reply::at(*at)),
        ..Worker::default()
    }
}

/// How many workers, without the extras, are ready.
pub(super) fn ready(view: &View) -> usize {
    let workers = view.workers.iter();
    let ready = workers.filter(|worker| worker.state == "ready" && worker.role.index().is_some());
    // A slot that is being rolled may have two.
    ready
        .map(|worker| worker.role)
        .collect::<BTreeSet<_>>()
        .len()
}

fn name_of(view: &View, role: Role) -> String {
    let place = view.places.iter().find(|place| place.role == role);
    match (place, role) {
        (Some(place), _) => place.name.clone(),
        (None, Role::Slot(slot)) => format!("worker {slot}"),
        (None, Role::Extra(extra)) => format!("extra {extra}"),
    }
}

/// By the index of a worker, or the name of an extra.
fn place<'v>(view: &'v View, worker: &str) -> Result<&'v Place, Refused> {
    let index = worker.parse::<usize>().ok();
    let found = view.places.iter().find(|place| match place.role.index() {
        Some(slot) => Some(slot) == index || place.name == worker,
        None => place.name == worker,
    });
    found.ok_or_else(|| {
        let names = view.places.iter().map(|place| match place.role.index() {
            Some(slot) => slot.to_string(),
            None => place.name.clone(),
        });
        let names: Vec<String> = names.collect();
        Refused::unknown(format!(
            "there is no worker `{worker}`; there are {}",
            names.join(", ")
        ))
    })
}

/// For as long as something is being done.
struct Acting(Rc<Desk>);

impl Drop for Acting {
    fn drop(&mut self) {
        *self.0.acting.borrow_mut() = None;
    }
}

/// What tells that an act is done.
struct Awaited {
    act: Act,
    begun: bool,
}

impl Awaited {
    fn new(act: Act) -> Awaited {
        Awaited { act, begun: false }
    }

    fn happened(&mut self, entry: &Entry) -> Option<Result<Reply, Refused>> {
        let done = |done: String| Some(Ok(Reply::Done { done }));
        match (entry.step?, self.act) {
            (Step::Stopping, _) => Some(Err(Refused::unavailable(entry.text.clone()))),
            // What was asked for may have to wait for a roll that is under way.
            (Step::RollStarted(None), Act::Reload | Act::Restart(_)) => {
                self.begun = true;
                None
            }
            (Step::RollStarted(Some(role)), Act::Restart(asked)) => {
                self.begun |= role == asked;
                None
            }
            (Step::RollDone, Act::Reload) if self.begun => done("rolling restart done".to_owned()),
            (Step::RollDone, Act::Restart(_)) if self.begun => done("restarted".to_owned()),
            (Step::NotRestarted(role), Act::Restart(asked)) if role == asked => {
                Some(Err(Refused::failed(entry.text.clone())))
            }
            (Step::RollGivenUp(_), Act::Reload | Act::Restart(_)) if self.begun => {
                Some(Err(Refused::failed(entry.text.clone())))
            }
            (Step::Upgraded, Act::Upgrade) => done(entry.text.clone()),
            (Step::UpgradeFailed, Act::Upgrade) => Some(Err(Refused::failed(entry.text.clone()))),
            (Step::ScaleGivenUp, Act::Scale(_)) => Some(Err(Refused::failed(entry.text.clone()))),
            _ => None,
        }
    }

    /// Whether as many are ready as there are to be, and no others are left.
    fn looks(&self, view: &View) -> Option<Result<Reply, Refused>> {
        let Act::Scale(number) = self.act else {
            return None;
        };
        if view.wanted != number {
            return Some(Err(Refused::failed(format!(
                "the number of workers was changed again, to {}",
                view.wanted
            ))));
        }
        let superfluous = view
            .workers
            .iter()
            .any(|worker| worker.role.index().is_some_and(|slot| slot >= number));
        let is_filled = |place: &Place| {
            let mut workers = view.workers.iter();
            place.out || workers.any(|worker| worker.role == place.role && worker.state == "ready")
        };
        let filled = view.places.iter().all(is_filled);
        let done = format!("the number of workers is {number}");
        (view.target == number && filled && !superfluous).then_some(Ok(Reply::Done { done }))
    }
}

impl Following {
    /// The next events, at least one. Cancel-safe. `None` when the server has ended.
    pub(super) async fn next(&mut self) -> Option<Vec<Event>> {
        let mut newest = self.desk.watcher.journal.watch();
        loop {
            newest.borrow_and_update();
            let entries = self.desk.watcher.journal.since(self.read);
            if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                let lost = first.number - self.read - 1;
                let before = self.read > 0 && lost > 0;
                self.read = last.number;
                let lost = before.then(|| Event {
                    number: first.number - 1,
                    time: reply::at(first.at),
                    event: "lost",
                    worker: None,
                    role: None,
                    pid: None,
                    text: format!("{lost} events were not read in time"),
                });
                let events = entries.iter().map(|entry| Event::from(&**entry));
                return Some(lost.into_iter().chain(events).collect());
            }
            newest.changed().await.ok()?;
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.desk.followers.set(self.desk.followers.get() - 1);
    }
}

#[cfg(test)]
mod tests;
