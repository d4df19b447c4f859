//! The commands: how they are called, and what is read from the words of a request.

use std::borrow::Cow;

use super::reply::Refused;
use crate::server::line::TimerAct;

/// The most bytes of a command's arguments: what a worker has yet to read of them waits in a bounded queue.
const LONGEST_ARGUMENTS: usize = 4096;

/// A command as `help` tells it.
pub(super) struct Known {
    pub(super) word: &'static str,
    pub(super) alias: Option<&'static str>,
    pub(super) arguments: &'static str,
    pub(super) does: &'static str,
    /// It changes something: `POST`.
    pub(super) acts: bool,
}

const fn shows(word: &'static str, arguments: &'static str, does: &'static str) -> Known {
    Known {
        word,
        alias: None,
        arguments,
        does,
        acts: false,
    }
}

const fn acts(word: &'static str, arguments: &'static str, does: &'static str) -> Known {
    Known {
        acts: true,
        ..shows(word, arguments, does)
    }
}

pub(super) const KNOWN: &[Known] = &[
    shows("help", "", "lists the commands"),
    shows(
        "server",
        "",
        "shows the server, its addresses and its options",
    ),
    Known {
        alias: Some("ps"),
        ..shows("workers", "", "shows the workers, one a row")
    },
    shows(
        "connections",
        "[WORKER]",
        "shows the connections that are open",
    ),
    shows("timers", "", "shows the timers of all workers"),
    shows(
        "tasks",
        "",
        "shows ticks, handlers and tasks of scopes, and how the last ones ended",
    ),
    shows(
        "contexts",
        "",
        "shows the contexts of all workers, by function",
    ),
    acts(
        "timer",
        "NAME trigger|pause|resume",
        "has the timers of that name run now, pause or go on",
    ),
    shows(
        "metrics",
        "",
        "shows all figures in Prometheus' text format",
    ),
    shows(
        "events",
        "[--follow]",
        "shows the last events, and those to come",
    ),
    acts("restart", "WORKER", "replaces a worker by a new one"),
    acts("reload", "", "restarts all workers, one after the other"),
    acts(
        "upgrade",
        "",
        "replaces the supervisor itself by what is on disk",
    ),
    acts("scale", "N", "changes the number of workers"),
    acts(
        "log",
        "FILTER [WORKER]",
        "changes what is logged, until the next restart",
    ),
    acts(
        "run",
        "NAME [ARGS] [--worker WORKER]",
        "runs a command of the program's own, in all workers or in one",
    ),
    acts(
        "drain",
        "",
        "stops the server as a first stop signal does: after its `drain_delay`",
    ),
    acts(
        "stop",
        "",
        "stops the server gracefully, without its `drain_delay`",
    ),
];

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Server,
    Workers,
    /// Of all workers, or of one.
    Connections(Option<String>),
    Timers,
    Contexts,
    Tasks,
    Timer {
        name: String,
        act: TimerAct,
    },
    Metrics,
    /// In one worker, or in the whole server.
    Log {
        filter: String,
        worker: Option<String>,
    },
    Run {
        name: String,
        args: Vec<String>,
        worker: Option<String>,
    },
    Events {
        follow: bool,
    },
    /// By its index, or an extra's name.
    Restart(String),
    Reload,
    Upgrade,
    Scale(usize),
    Drain,
    Stop,
}

/// Where the words come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    /// From a request that may change nothing.
    Look,
    LookAndAct,
}

impl Command {
    pub(super) fn read(words: &[String], may: May) -> Result<Command, Refused> {
        let Some((word, arguments)) = words.split_first() else {
            return Err(Refused::unknown("no command is given; `help` lists them"));
        };
        let found = KNOWN
            .iter()
            .find(|known| known.word == word || known.alias == Some(word));
        let Some(known) = found else {
            let near = nearest(word, KNOWN.iter().map(|known| known.word));
            let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
            return Err(Refused::unknown(format!(
                "unknown command `{word}`; {near}`help` lists them"
            )));
        };
        if known.acts && may == May::Look {
            return Err(Refused::not_allowed(format!(
                "`{word}` changes something: use POST"
            )));
        }
        let usage = || {
            let usage = format!("{} {}", known.word, known.arguments);
            let given = arguments.join(" ");
            Refused::wrong(format!(
                "`{word}` is used as `{}`, not with `{given}`",
                usage.trim_end()
            ))
        };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let command = match (known.word, &arguments[..]) {
            ("help", []) => Command::Help,
            ("server", []) => Command::Server,
            ("workers", []) => Command::Workers,
            ("connections", []) => Command::Connections(None),
            ("connections", [worker]) => Command::Connections(Some((*worker).to_owned())),
            ("timers", []) => Command::Timers,
            ("tasks", []) => Command::Tasks,
            ("contexts", []) => Command::Contexts,
            ("timer", [name, act]) => Command::Timer {
                name: (*name).to_owned(),
                act: match *act {
                    "trigger" => TimerAct::Trigger,
                    "pause" => TimerAct::Pause,
                    "resume" => TimerAct::Resume,
                    _ => return Err(usage()),
                },
            },
            ("metrics", []) => Command::Metrics,
            ("log", [filter]) => Command::Log {
                filter: (*filter).to_owned(),
                worker: None,
            },
            ("log", [filter, worker]) => Command::Log {
                filter: (*filter).to_owned(),
                worker: Some((*worker).to_owned()),
            },
            ("run", [name, args @ ..]) => {
                let (args, worker) = match args {
                    [args @ .., "--worker" | "-w", worker] => (args, Some((*worker).to_owned())),
                    args => (args, None),
                };
                if args.iter().map(|arg| arg.len()).sum::<usize>() > LONGEST_ARGUMENTS {
                    return Err(Refused::wrong(format!(
                        "the arguments of a command have at most {LONGEST_ARGUMENTS} bytes"
                    )));
                }
                Command::Run {
                    name: (*name).to_owned(),
                    args: args.iter().map(|&arg| arg.to_owned()).collect(),
                    worker,
                }
            }
            ("events", []) => Command::Events { follow: false },
            ("events", ["--follow" | "-f"]) => Command::Events { follow: true },
            ("restart", [worker]) => Command::Restart((*worker).to_owned()),
            ("reload", []) => Command::Reload,
            ("upgrade", []) => Command::Upgrade,
            ("scale", [number]) => Command::Scale(
                number
                    .parse()
                    .map_err(|_| Refused::wrong(format!("`{number}` isn't a number of workers")))?,
            ),
            ("drain", []) => Command::Drain,
            ("stop", []) => Command::Stop,
            _ => return Err(usage()),
        };
        Ok(command)
    }

    /// As it is typed.
    pub(super) fn line(&self) -> String {
        let (word, arguments) = match self {
            Command::Help => ("help", vec![]),
            Command::Server => ("server", vec![]),
            Command::Workers => ("workers", vec![]),
            Command::Connections(of) => ("connections", of.iter().cloned().collect()),
            Command::Timers => ("timers", vec![]),
            Command::Contexts => ("contexts", vec![]),
            Command::Tasks => ("tasks", vec![]),
            Command::Timer { name, act } => {
                let act = match act {
                    TimerAct::Trigger => "trigger",
                    TimerAct::Pause => "pause",
                    TimerAct::Resume => "resume",
                };
                ("timer", vec![name.clone(), act.to_owned()])
            }
            Command::Metrics => ("metrics", vec![]),
            Command::Log { filter, worker } => {
                let filter = std::iter::once(filter);
                ("log", filter.chain(worker).cloned().collect())
            }
            Command::Run { name, args, worker } => {
                let mut arguments = vec![name.clone()];
                arguments.extend_from_slice(args);
                if let Some(worker) = worker {
                    arguments.extend(["--worker".to_owned(), worker.clone()]);
                }
                ("run", arguments)
            }
            Command::Events { follow } => {
                let follow = follow.then(|| "--follow".to_owned());
                ("events", follow.into_iter().collect())
            }
            Command::Restart(worker) => ("restart", vec![worker.clone()]),
            Command::Reload => ("reload", vec![]),
            Command::Upgrade => ("upgrade", vec![]),
            Command::Scale(number) => ("scale", vec![number.to_string()]),
            Command::Drain => ("drain", vec![]),
            Command::Stop => ("stop", vec![]),
        };
        let mut line = word.to_owned();
        for argument in arguments {
            line.push(' ');
            line.push_str(&quoted(&argument));
        }
        line
    }
}

/// One word for [`words`], whatever is in it.
fn quoted(word: &str) -> Cow<'_, str> {
    let splits = |character: char| character.is_whitespace() || matches!(character, '"' | '\'');
    match word.is_empty() || word.contains(splits) {
        true => format!("'{}'", word.replace('\'', r#"'"'"'"#)).into(),
        false => word.into(),
    }
}

/// The words of a line; quotes keep blanks in one.
pub(super) fn words(line: &str) -> Result<Vec<String>, Refused> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quote = None;
    for character in line.chars() {
        match (character, quote) {
            (end, Some(begin)) if end == begin => quote = None,
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (blank, None) if blank.is_whitespace() => words.extend(word.take()),
            (character, _) => word.get_or_insert_default().push(character),
        }
    }
    if let Some(quote) = quote {
        return Err(Refused::wrong(format!("a {quote} is never closed")));
    }
    words.extend(word);
    Ok(words)
}

/// The known word that is most probably meant.
pub(super) fn nearest<'w>(typed: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let begins = |word: &&str| !typed.is_empty() && word.starts_with(typed);
    let distances = known.map(|word| match begins(&word) {
        true => (0, word),
        false => (distance(typed, word), word),
    });
    let (distance, word) = distances.min()?;
    (distance <= 1 + typed.len() / 4).then_some(word)
}

/// How many letters have to be changed, put in or left out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, String> {
        let words = words(line).map_err(|refused| refused.error)?;
        Command::read(&words, May::LookAndAct).map_err(|refused| refused.error)
    }

    #[test]
    fn commands_are_read_with_their_arguments() {
        assert_eq!(read("workers"), Ok(Command::Workers));
        assert_eq!(read(" ps "), Ok(Command::Workers));
        assert_eq!(read("scale 4"), Ok(Command::Scale(4)));
        assert_eq!(
            read("run flush a b --worker 1"),
            Ok(Command::Run {
                name: "flush".to_owned(),
                args: vec!["a".to_owned(), "b".to_owned()],
                worker: Some("1".to_owned()),
            })
        );
        assert!(read("timer beat stop").is_err());
        assert_eq!(read("events -f"), Ok(Command::Events { follow: true }));
        assert_eq!(
            read("restart 'the exporter'"),
            Ok(Command::Restart("the exporter".to_owned()))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |line| read(line).unwrap_err();
        assert_eq!(
            error("wrokers"),
            "unknown command `wrokers`; did you mean `workers`? `help` lists them"
        );
        assert_eq!(
            error("rel"),
            "unknown command `rel`; did you mean `reload`? `help` lists them"
        );
        assert_eq!(
            error("frobnicate"),
            "unknown command `frobnicate`; `help` lists them"
        );
        assert_eq!(error("scale many"), "`many` isn't a number of workers");
        assert_eq!(
            error("restart"),
            "`restart` is used as `restart WORKER`, not with ``"
        );
        assert_eq!(error("restart '0"), "a ' is never closed");
        let words = ["stop".to_owned()];
        assert!(Command::read(&words, May::Look).is_err());
    }

    /// The log tells what was asked for.
    #[test]
    fn a_command_is_told_as_it_is_typed() {
        for known in KNOWN {
            let arguments = match known.word {
                "connections" | "restart" => "'the exporter'",
                "timer" => "beat pause",
                "log" => "info,a=debug 0",
                "run" => "flush a '' 'b  c' --worker 1",
                "events" => "--follow",
                "scale" => "3",
                _ => "",
            };
            let line = format!("{} {arguments}", known.word);
            assert_eq!(read(&line).unwrap().line(), line.trim_end());
        }
        let strange = ["run", "say", "it's", "\"", " ", "-"].map(str::to_owned);
        let command = Command::read(&strange, May::LookAndAct).unwrap();
        assert_eq!(words(&command.line()), Ok(strange.to_vec()));
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, far) in [
            ("", "", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ps", "ps", 0),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (far, far), "{a} {b}");
        }
    }
}
