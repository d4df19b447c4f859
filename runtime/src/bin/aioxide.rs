//! `aioxide`: finds the servers that can be looked into, and passes commands on to one of them.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;

/// Looks into a running aioxide server, and acts on it.
///
/// Exit codes: 0 done, 1 refused or failed, 2 no server can be reached.
#[derive(Parser)]
#[command(name = "aioxide", version)]
struct Args {
    /// The door of the server; needed where it isn't found by its usual name.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Which of several servers, by its name or pid.
    #[arg(long, value_name = "NAME|PID", conflicts_with = "socket")]
    server: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// `list` shows the servers; any other command is the server's, and `help` lists those.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Why there is nothing to show.
enum Failed {
    /// No server can be reached.
    Unreachable(String),
    /// The server says so.
    Refused(String),
}

impl Failed {
    fn at(door: &Path, error: impl fmt::Display) -> Failed {
        Failed::Unreachable(format!("{}: {error}", door.display()))
    }
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let (text, code) = match run(args) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failed::Refused(text)) => (text, 1),
        Err(Failed::Unreachable(text)) => (format!("error: {text}\n"), 2),
    };
    let _ = write!(io::stderr(), "{text}");
    ExitCode::from(code)
}

fn run(mut args: Args) -> Result<(), Failed> {
    // Flags of ours may stand behind the command too.
    args.command.retain(|word| {
        let is_ours = word == "--json";
        args.json |= is_ours;
        !is_ours
    });
    if args.command == ["list"] {
        return list(args.json);
    }
    let door = match args.socket {
        Some(door) => door,
        None => choose(args.server.as_deref())?,
    };
    let path: String = args
        .command
        .iter()
        .map(|word| format!("/{}", encoded(word)))
        .collect();
    let accept = if args.json {
        "application/json"
    } else {
        "text/plain"
    };
    let mut response = request(&door, "GET", &path, accept)?;
    // It changes something, and nothing has been changed yet.
    if response.status == 405 {
        response = request(&door, "POST", &path, accept)?;
    }
    if !(200..300).contains(&response.status) {
        let mut text = String::new();
        response
            .body
            .read_to_string(&mut text)
            .map_err(|error| Failed::at(&door, error))?;
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

struct Response {
    status: u16,
    body: BufReader<UnixStream>,
}

/// In HTTP/1.0, in which the end of the connection is that of the body.
fn request(door: &Path, method: &str, path: &str, accept: &str) -> Result<Response, Failed> {
    let failed = |error: io::Error| Failed::at(door, error);
    let mut stream = UnixStream::connect(door).map_err(failed)?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nhost: aioxide\r\naccept: {accept}\r\n\r\n"
    )
    .map_err(failed)?;
    let mut body = BufReader::new(stream);
    let mut status = None;
    loop {
        let mut line = String::new();
        body.read_line(&mut line).map_err(failed)?;
        if status.is_none() {
            let number = line
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok());
            let number =
                number.ok_or_else(|| Failed::at(door, format!("not an answer: {line}")))?;
            status = Some(number);
        } else if line.trim_end().is_empty() {
            return Ok(Response {
                status: status.unwrap_or_default(),
                body,
            });
        }
    }
}

fn encoded(word: &str) -> String {
    let encoded = word.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// The doors of this user's servers, of all users' for root, by the kernel's table of Unix sockets.
fn doors() -> Vec<PathBuf> {
    /// A socket that listens.
    const LISTENS: &str = "00010000";
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let own = fs::metadata("/proc/self").map_or(0, |found| found.uid());
    let listening = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let flags = fields.nth(3)?;
        let path = PathBuf::from(fields.nth(3)?);
        (flags == LISTENS).then_some(path)
    });
    let mut doors: Vec<PathBuf> = listening
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy());
            let is_door =
                name.is_some_and(|name| name.starts_with("aioxide-") && name.ends_with(".sock"));
            let is_own = |found: fs::Metadata| own == 0 || found.uid() == own;
            is_door && fs::metadata(path).is_ok_and(is_own)
        })
        .collect();
    doors.sort();
    doors.dedup();
    doors
}

/// What a server says of itself.
fn about(door: &Path) -> Result<Value, Failed> {
    let mut response = request(door, "GET", "/server", "application/json")?;
    let mut text = String::new();
    response
        .body
        .read_to_string(&mut text)
        .map_err(|error| Failed::at(door, error))?;
    serde_json::from_str(&text).map_err(|error| Failed::at(door, error))
}

/// The one server there is, or the one that is meant.
fn choose(meant: Option<&str>) -> Result<PathBuf, Failed> {
    let mut doors = doors();
    if let Some(meant) = meant {
        doors.retain(|door| {
            about(door).is_ok_and(|about| {
                about["name"] == meant
                    || about["pid"]
                        .as_u64()
                        .is_some_and(|pid| meant.parse() == Ok(pid))
            })
        });
    }
    match &doors[..] {
        [door] => Ok(door.clone()),
        [] => Err(Failed::Unreachable(match meant {
            Some(meant) => {
                format!("no server `{meant}` is found; `aioxide list` shows those that are")
            }
            None => "no server with a door is found; `--socket` says where one is".to_owned(),
        })),
        doors => {
            let doors = doors.iter().map(|door| format!("\n  {}", door.display()));
            let doors: String = doors.collect();
            Err(Failed::Unreachable(format!(
                "there are several servers; `--server` or `--socket` says which one is meant:{doors}"
            )))
        }
    }
}

fn list(as_json: bool) -> Result<(), Failed> {
    let servers = doors().into_iter().filter_map(|door| {
        let about = about(&door).ok()?;
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
        let plain = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
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
