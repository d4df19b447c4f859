//! Commands as lines, for `nc` and whoever else reads and writes text.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::clients::Client;
use super::desk::{Asker, Desk, Following, Given, Progress};
use super::reply::{Refused, Reply};
use super::vocabulary::{Command, May, words};

/// The longest line that is read.
const LONGEST: usize = 4096;
/// Who wasn't greeted is done after this long.
const SILENCE: Duration = Duration::from_secs(1);
/// What a client gets to take a reply.
const WRITE: Duration = Duration::from_secs(5);
/// How often it is looked whether a client that says nothing more is still there.
const ROUND: Duration = Duration::from_secs(1);

const PROMPT: &str = "> ";

/// A client that waits for a greeting is a person.
pub(super) async fn greet_and_talk(
    stream: UnixStream,
    desk: Rc<Desk>,
    asker: Asker,
    client: &Client,
) -> io::Result<()> {
    let mut session = Session::new(stream, Vec::new(), desk, asker);
    let workers = match session.desk.view().await {
        Ok(view) => match view.target {
            1 => "1 worker".to_owned(),
            workers => format!("{workers} workers"),
        },
        Err(refused) => refused.error,
    };
    let (name, pid) = (session.desk.about.name.clone(), std::process::id());
    let greeting = format!("{name}, pid {pid}, {workers}; `help` lists the commands\n{PROMPT}");
    session.write(&greeting).await?;
    loop {
        client.idle();
        let line = session.line(|| client.waited_for()).await?;
        let Some(line) = line else { return Ok(()) };
        if matches!(line.trim(), "exit" | "quit" | "q") {
            return Ok(());
        }
        if !line.trim().is_empty() {
            session.answer(&line, client, true).await?;
        }
        client.waited_for();
        session.write(PROMPT).await?;
    }
}

/// One that had something to say at once, `begin`, is a script.
pub(super) async fn talk(
    stream: UnixStream,
    begin: Vec<u8>,
    desk: Rc<Desk>,
    asker: Asker,
    client: &Client,
) -> io::Result<()> {
    let mut session = Session::new(stream, begin, desk, asker);
    loop {
        client.waited_for();
        let Ok(line) = timeout(SILENCE, session.line(|| ())).await else {
            return Ok(());
        };
        let Some(line) = line? else { return Ok(()) };
        if !line.trim().is_empty() {
            session.answer(&line, client, false).await?;
        }
    }
}

struct Session {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    /// What has been read and not yet been a line.
    read: Vec<u8>,
    at_end: bool,
    desk: Rc<Desk>,
    asker: Asker,
}

impl Session {
    fn new(stream: UnixStream, read: Vec<u8>, desk: Rc<Desk>, asker: Asker) -> Session {
        let (reader, writer) = stream.into_split();
        Session {
            reader,
            writer,
            read,
            at_end: false,
            desk,
            asker,
        }
    }

    /// The next line; the last one need not have an end. `begun` is told once there is a part of it. Cancel-safe.
    async fn line(&mut self, begun: impl Fn()) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim().to_owned()));
            }
            if self.read.len() > LONGEST {
                let error = format!("error: a line has at most {LONGEST} bytes\n");
                self.write(&error).await?;
                return Ok(None);
            }
            if self.at_end {
                let line = std::mem::take(&mut self.read);
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                return Ok((!line.is_empty()).then_some(line));
            }
            if !self.read.is_empty() {
                begun();
            }
            self.at_end = self.reader.read_buf(&mut self.read).await? == 0;
        }
    }

    async fn write(&mut self, text: &str) -> io::Result<()> {
        timeout(WRITE, self.writer.write_all(text.as_bytes())).await?
    }

    async fn answer(&mut self, line: &str, client: &Client, is_person: bool) -> io::Result<()> {
        let mut as_json = false;
        let command = words(line).and_then(|mut words| {
            if words.last().is_some_and(|word| word == "--json") {
                as_json = true;
                words.pop();
            }
            Command::read(&words, May::LookAndAct)
        });
        client.served();
        let given = match command {
            Ok(command) => self.desk.carry_out(command, self.asker).await,
            Err(refused) => Err(refused),
        };
        client.waited_for();
        match given {
            Ok(Given::Reply(reply)) => {
                let ends = matches!(reply, Reply::Accepted { .. });
                self.reply(Ok(reply), as_json).await?;
                if ends {
                    client.served_for_long();
                    self.gone().await?;
                }
                Ok(())
            }
            Ok(Given::Acting(mut progress)) => {
                client.served_for_long();
                loop {
                    let step = tokio::select! {
                        step = progress.recv() => step,
                        gone = self.gone() => return gone,
                    };
                    let Some(step) = step else { break };
                    match step {
                        Progress::Step(text) if !as_json => {
                            self.write(&format!("{text}\n")).await?
                        }
                        Progress::Step(_) => {}
                        Progress::Done(done) => self.reply(done, as_json).await?,
                    }
                }
                Ok(())
            }
            Ok(Given::Following(following)) => {
                client.served_for_long();
                self.follow(following, as_json, is_person).await
            }
            Err(refused) => self.reply(Err(refused), as_json).await,
        }
    }

    async fn reply(&mut self, reply: Result<Reply, Refused>, as_json: bool) -> io::Result<()> {
        let reply = match (reply, as_json) {
            (Ok(reply), false) => reply.text(),
            (Ok(reply), true) => match reply.json() {
                Ok(json) => json + "\n",
                Err(refused) => refused.text(),
            },
            (Err(refused), false) => refused.text(),
            (Err(refused), true) => json_of(&refused),
        };
        self.write(&reply).await
    }

    /// Until the client is gone; a person ends it with a line too.
    async fn follow(
        &mut self,
        mut following: Following,
        as_json: bool,
        is_person: bool,
    ) -> io::Result<()> {
        loop {
            let events = tokio::select! {
                events = following.next() => events,
                ended = self.line_or_gone() => match ended? {
                    true => return Err(io::ErrorKind::BrokenPipe.into()),
                    false if is_person => return Ok(()),
                    false => continue,
                },
            };
            let Some(events) = events else { return Ok(()) };
            let text: String = events
                .iter()
                .map(|event| match as_json {
                    true => json_of(event),
                    false => event.text(),
                })
                .collect();
            self.write(&text).await?;
        }
    }

    /// Whether the client is gone, or has said something. Cancel-safe.
    async fn line_or_gone(&mut self) -> io::Result<bool> {
        if !self.at_end && self.line(|| ()).await?.is_some() {
            return Ok(false);
        }
        self.gone().await?;
        Ok(true)
    }

    /// Waits until the client reads no more. Whoever has only said all that there is to say is still there.
    async fn gone(&mut self) -> io::Result<()> {
        while !self
            .writer
            .ready(Interest::WRITABLE)
            .await?
            .is_write_closed()
        {
            tokio::time::sleep(ROUND).await;
        }
        Ok(())
    }
}

fn json_of(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| error.to_string()) + "\n"
}
