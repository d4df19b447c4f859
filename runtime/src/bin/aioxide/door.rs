//! The doors of servers: which there are, and what is said through one.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long a server may be silent when it is looked at; itself, it waits no longer than a second for its workers.
const LOOK: Duration = Duration::from_secs(5);

/// Why there is nothing to show.
#[derive(Debug)]
pub(crate) enum Failed {
    /// No server can be reached.
    Unreachable(String),
    /// The server says so.
    Refused(String),
}

impl Failed {
    pub(crate) fn at(door: &Path, error: impl fmt::Display) -> Failed {
        Failed::Unreachable(format!("{}: {error}", door.display()))
    }
}

/// Which server is meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct Meant {
    /// The door of the server; needed where it isn't found by its usual name.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Which of several servers, by its name or pid.
    #[arg(long, value_name = "NAME|PID", conflicts_with = "socket")]
    server: Option<String>,
}

impl Meant {
    /// Its door.
    pub(crate) fn find(&self) -> Result<PathBuf, Failed> {
        match &self.socket {
            Some(door) => Ok(door.clone()),
            None => choose(self.server.as_deref()),
        }
    }

    /// Its door and its name, for those who look at it for longer.
    pub(crate) fn meet(&self) -> Result<(PathBuf, String), Failed> {
        let door = self.find()?;
        let about = about(&door)?;
        let name = about["name"].as_str().unwrap_or_default().to_owned();
        Ok((door, name))
    }

    /// The door of a server of this name that was started again: its pid is another one, and so is the path of its door.
    pub(crate) fn find_again(&self, name: &str) -> Result<PathBuf, Failed> {
        match &self.socket {
            Some(door) => Ok(door.clone()),
            None => choose(Some(name)),
        }
    }
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: BufReader<UnixStream>,
}

impl Response {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// All of it.
    pub(crate) fn text(mut self) -> io::Result<String> {
        let mut text = String::new();
        self.body.read_to_string(&mut text)?;
        Ok(text)
    }
}

/// In HTTP/1.0, in which the end of the connection is that of the body.
pub(crate) fn request(
    door: &Path,
    method: &str,
    path: &str,
    accept: &str,
) -> Result<Response, Failed> {
    request_within(None, door, method, path, accept)
}

fn request_within(
    silence: Option<Duration>,
    door: &Path,
    method: &str,
    path: &str,
    accept: &str,
) -> Result<Response, Failed> {
    let failed = |error: io::Error| Failed::at(door, error);
    let mut stream = UnixStream::connect(door).map_err(failed)?;
    stream.set_read_timeout(silence).map_err(failed)?;
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

pub(crate) fn encoded(word: &str) -> String {
    let encoded = word.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// The doors of this user's servers, of all users' for root, by the kernel's table of Unix sockets.
pub(crate) fn all() -> Vec<PathBuf> {
    let table = fs::read("/proc/net/unix").unwrap_or_default();
    let own = fs::metadata("/proc/self").map_or(0, |found| found.uid());
    let listening = table.split(|byte| *byte == b'\n').filter_map(listening);
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

/// The path in a line of the kernel's table, if it is of a socket that listens. There may be blanks in it.
fn listening(line: &[u8]) -> Option<PathBuf> {
    const LISTENS: &[u8] = b"00010000";
    /// How many fields stand before the path, and before the flags.
    const FIELDS: usize = 7;
    const FLAGS: usize = 3;
    let mut rest = line;
    for field in 0..FIELDS {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| *byte == b' ')?;
        if field == FLAGS && &rest[..end] != LISTENS {
            return None;
        }
        rest = &rest[end..];
    }
    Some(PathBuf::from(OsStr::from_bytes(&rest[1..])))
}

/// What a server says of itself.
pub(crate) fn about(door: &Path) -> Result<Value, Failed> {
    ask(door, "/server")
}

/// The JSON of a command that only shows something.
pub(crate) fn ask<T: DeserializeOwned>(door: &Path, path: &str) -> Result<T, Failed> {
    let response = request_within(Some(LOOK), door, "GET", path, "application/json")?;
    let is_success = response.is_success();
    let text = response.text().map_err(|error| Failed::at(door, error))?;
    match is_success {
        true => serde_json::from_str(&text).map_err(|error| Failed::at(door, error)),
        false => Err(Failed::Refused(text)),
    }
}

/// The one server there is, or the one that is meant.
fn choose(meant: Option<&str>) -> Result<PathBuf, Failed> {
    let mut doors = all();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_is_found_with_blanks_in_its_path() {
        let of = |line: &str| listening(line.as_bytes());
        let listens = "0000000000000000: 00000002 00000000 00010000 0001 01 1234567 /run/a server/aioxide-a b-1.sock";
        assert_eq!(of(listens), Some("/run/a server/aioxide-a b-1.sock".into()));
        for other in [
            "Num       RefCount Protocol Flags    Type St Inode Path",
            "0000000000000000: 00000002 00000000 00010000 0001 01    12",
            "0000000000000000: 00000003 00000000 00000000 0001 03 1234567 /run/aioxide-a-1.sock",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
