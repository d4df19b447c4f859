//! `aioxide top`: a server on the terminal, once a second.

mod model;
mod terminal;
mod view;

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, KeyEvent};
use tokio::signal::unix::{SignalKind, signal};

use crate::door::{self, Failed, Meant, encoded};
use model::{Act, Effect, Event, Model, Note, Seen};

/// How long after one look the next is taken.
const EVERY: Duration = Duration::from_secs(1);

/// What comes to be known.
enum Message {
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    Seen(Box<Seen>),
    Away(String),
    Happened(Event),
    Note(Note),
    /// The terminal is gone, or somebody ends this.
    End,
}

/// Shows a server until `q` is pressed.
pub(crate) fn run(meant: &Meant) -> Result<(), Failed> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let text = "error: `top` needs a terminal; `workers` prints the same once\n";
        return Err(Failed::Refused(text.to_owned()));
    }
    let (door, name) = meant.meet()?;
    let refused = |error: io::Error| Failed::Refused(format!("error: {error}\n"));
    let (tell, told) = channel();
    hear_signals(tell.clone()).map_err(refused)?;
    let keys = tell.clone();
    let finder = Finder {
        meant: meant.clone(),
        name,
        door: Arc::new(Mutex::new(door)),
    };
    look_on(finder.clone(), tell.clone());
    follow_on(finder.clone(), tell.clone());
    terminal::with(|terminal| {
        // Only now: what is typed before isn't meant for the screen.
        thread::spawn(move || read_keys(&keys));
        show(terminal, &told, &tell, &finder)
    })
    .map_err(refused)
}

fn show(
    terminal: &mut DefaultTerminal,
    told: &Receiver<Message>,
    tell: &Sender<Message>,
    finder: &Finder,
) -> io::Result<()> {
    let begun = Instant::now();
    let mut model = Model::default();
    loop {
        terminal.draw(|frame| view::draw(frame, &model))?;
        // We have a sender ourselves.
        let Ok(first) = told.recv() else {
            return Ok(());
        };
        // What has come by now is shown at once.
        for message in std::iter::once(first).chain(told.try_iter()) {
            match message {
                Message::Key(key) => match model.key(key) {
                    Some(Effect::Quit) => return Ok(()),
                    Some(Effect::Act(act)) => act_on(finder.door(), act, tell.clone()),
                    None => {}
                },
                Message::Resized => {}
                Message::Seen(seen) => model.look(*seen, begun.elapsed()),
                Message::Away(why) => model.away = Some(why),
                Message::Happened(event) => model.happened(event),
                Message::Note(note) => model.note = Some(note),
                Message::End => return Ok(()),
            }
        }
    }
}

/// Finds the server, also when it was started again.
#[derive(Clone)]
struct Finder {
    meant: Meant,
    name: String,
    door: Arc<Mutex<PathBuf>>,
}

impl Finder {
    fn door(&self) -> PathBuf {
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        door.clone()
    }

    /// Asks, and asks once more at another door if that is where the server is now.
    fn with<T>(&self, ask: impl Fn(&Path) -> Result<T, Failed>) -> Result<T, Failed> {
        let door = self.door();
        match ask(&door) {
            Err(Failed::Unreachable(why)) => match self.meant.find_again(&self.name) {
                Ok(found) if found != door => {
                    let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
                    *door = found.clone();
                    drop(door);
                    ask(&found)
                }
                _ => Err(Failed::Unreachable(why)),
            },
            answered => answered,
        }
    }
}

fn look_on(finder: Finder, tell: Sender<Message>) {
    thread::spawn(move || {
        loop {
            let looked = finder.with(|door| {
                Ok(Seen {
                    server: door::ask(door, "/server")?,
                    workers: door::ask(door, "/workers")?,
                    timers: door::ask(door, "/timers")?,
                })
            });
            let message = match looked {
                Ok(seen) => Message::Seen(Box::new(seen)),
                Err(Failed::Unreachable(why) | Failed::Refused(why)) => Message::Away(why),
            };
            if tell.send(message).is_err() {
                return;
            }
            thread::sleep(EVERY);
        }
    });
}

fn follow_on(finder: Finder, tell: Sender<Message>) {
    thread::spawn(move || {
        loop {
            let followed = finder.with(|door| {
                let path = "/events/--follow";
                let response = door::request(door, "GET", path, "application/json")?;
                for line in response.body.lines().map_while(Result::ok) {
                    // Whoever refuses says so in an object without a number.
                    let Ok(event) = serde_json::from_str::<Event>(&line) else {
                        continue;
                    };
                    if event.number > 0 && tell.send(Message::Happened(event)).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            // Whoever looks tells that it can't be reached.
            let _ = followed;
            thread::sleep(EVERY);
        }
    });
}

fn act_on(door: PathBuf, act: Act, tell: Sender<Message>) {
    thread::spawn(move || {
        let words = act.words();
        let path: String = words
            .iter()
            .map(|word| format!("/{}", encoded(word)))
            .collect();
        let done = door::request(&door, "POST", &path, "text/plain").and_then(|response| {
            let is_done = response.is_success();
            let text = response.text().map_err(|error| Failed::at(&door, error))?;
            match is_done {
                true => Ok(text),
                false => Err(Failed::Refused(text)),
            }
        });
        let what = words.join(" ");
        let note = match done {
            Ok(text) => Note::Done(format!("{what}: {}", text.trim())),
            Err(Failed::Unreachable(text) | Failed::Refused(text)) => {
                Note::Failed(format!("{what}: {}", text.trim()))
            }
        };
        // Nobody may look any more.
        let _ = tell.send(Message::Note(note));
    });
}

fn read_keys(tell: &Sender<Message>) {
    loop {
        let message = match event::read() {
            Ok(event::Event::Key(key)) => Message::Key(key),
            Ok(event::Event::Resize(..)) => Message::Resized,
            Ok(_) => continue,
            Err(_) => Message::End,
        };
        let ends = matches!(message, Message::End);
        if tell.send(message).is_err() || ends {
            return;
        }
    }
}

/// The terminal is restored also when this is terminated.
fn hear_signals(tell: Sender<Message>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _inside = runtime.enter();
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    drop(_inside);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = hung_up.recv() => {}
            }
        });
        let _ = tell.send(Message::End);
    });
    Ok(())
}
