//! `aioxide`: finds the servers that can be looked into, passes commands on to one of them, and shows it in a browser or on
//! the terminal.

mod door;
mod open;
mod top;

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::Value;

use door::{Failed, encoded, request};

/// Looks into a running aioxide server, and acts on it.
///
/// Any other command is the server's, and `aioxide help` lists those.
///
/// Exit codes: 0 done, 1 refused or failed, 2 no server can be reached.
#[derive(Parser)]
#[command(name = "aioxide", version, disable_help_subcommand = true)]
struct Args {
    #[command(flatten)]
    server: door::Meant,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the servers that can be looked into.
    List,
    /// Shows the server in a browser, for as long as this runs.
    Open(open::Open),
    /// Shows the server on the terminal, once a second; `q` ends it.
    Top,
    #[command(external_subcommand)]
    Passed(Vec<String>),
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let done = match args.command {
        Command::List => list(args.json),
        Command::Open(open) => open.run(args.server),
        Command::Top => top::run(&args.server),
        Command::Passed(words) => pass(&args.server, words, args.json),
    };
    let (text, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failed::Refused(text)) => (text, 1),
        Err(Failed::Unreachable(text)) => (format!("error: {text}\n"), 2),
    };
    let _ = write!(io::stderr(), "{text}");
    ExitCode::from(code)
}

/// Passes a command on, and prints what comes back.
fn pass(server: &door::Meant, mut words: Vec<String>, mut as_json: bool) -> Result<(), Failed> {
    // This flag of ours may stand at the end too, as it may in a line.
    if words.last().is_some_and(|word| word == "--json") {
        as_json = true;
        words.pop();
    }
    let door = server.find()?;
    let path = path_of(&words);
    let accept = match as_json {
        true => "application/json",
        false => "text/plain",
    };
    let mut response = request(&door, "GET", &path, accept)?;
    // It changes something, and nothing has been changed yet.
    if response.status == 405 {
        response = request(&door, "POST", &path, accept)?;
    }
    if !response.is_success() {
        let text = response.text().map_err(|error| Failed::at(&door, error))?;
        return Err(Failed::Refused(text));
    }
    // Line by line: events come as they happen.
    let mut out = io::stdout().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = response.body.read_until(b'\n', &mut line);
        if read.map_err(|error| Failed::at(&door, error))? == 0 {
            return Ok(());
        }
        if out.write_all(&line).and_then(|()| out.flush()).is_err() {
            // Nobody reads on, `head` for example.
            return Ok(());
        }
    }
}

/// Arguments stand in the query, where they may be empty.
fn path_of(words: &[String]) -> String {
    let mut path = String::new();
    for (nth, word) in words.iter().enumerate() {
        path += match nth {
            0 => "/",
            1 => "?=",
            _ => "&=",
        };
        path += &encoded(word);
    }
    path
}

fn list(as_json: bool) -> Result<(), Failed> {
    let servers = door::all().into_iter().filter_map(|door: PathBuf| {
        let about = door::about(&door).ok()?;
        Some(serde_json::json!({
            "name": about["name"],
            "pid": about["pid"],
            "state": about["state"],
            "workers": about["workers"]["ready"],
            "socket": door.to_string_lossy(),
        }))
    });
    let servers: Vec<Value> = servers.collect();
    let mut text = String::new();
    if as_json {
        text = Value::from(servers).to_string() + "\n";
    } else {
        // What a server of another user says of itself is not for the terminal to act on.
        let plain = |value: &Value| match value.as_str() {
            Some(text) => text.replace(char::is_control, "?"),
            None => value.to_string(),
        };
        for server in &servers {
            let [name, pid, state, workers, socket] =
                ["name", "pid", "state", "workers", "socket"].map(|field| plain(&server[field]));
            text += &format!("{name}  pid {pid}  {state}  {workers} ready  {socket}\n");
        }
    }
    // Whoever reads no further has read enough.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_passed_on_as_they_are() {
        let run = ["run", "a b", "", "x=y&z"].map(str::to_owned);
        assert_eq!(path_of(&run[..1]), "/run");
        assert_eq!(path_of(&run), "/run?=a%20b&=&=x%3Dy%26z");
    }
}
