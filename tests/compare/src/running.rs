//! The programs that are measured, as the one that measures sees them; none outlives its handle.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use crate::kinds::Kind;
use crate::processes;
use crate::python::Python;

/// A program that says or does nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process of its own, with its lines of output, and its input if it is asked something.
pub(crate) struct Program {
    what: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Program {
    pub(crate) fn start(what: impl Into<String>, mut command: Command) -> Result<Program> {
        let what = what.into();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{what}: {command:?} can't be started"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("its stdout is piped")?;
        let (told, lines) = mpsc::channel();
        // Reads to the end, so that a program never waits for room to write to.
        thread::spawn(move || {
            let lines = BufReader::new(output).lines();
            lines
                .map_while(Result::ok)
                .try_for_each(|line| told.send(line))
        });
        Ok(Program {
            what,
            child,
            input,
            lines,
        })
    }

    /// The next line of its output.
    pub(crate) fn line(&self) -> Result<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(line),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("{}: nothing said for {PATIENCE:?}", self.what)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("{}: it has ended", self.what),
        }
    }

    /// The next line with this text.
    pub(crate) fn line_with(&self, text: &str) -> Result<String> {
        loop {
            let line = self.line()?;
            if line.contains(text) {
                return Ok(line);
            }
        }
    }

    /// Its answer to a line, as numbers.
    pub(crate) fn ask<const N: usize>(&mut self, question: impl fmt::Display) -> Result<[f64; N]> {
        let input = self.input.as_mut().context("its stdin is piped")?;
        writeln!(input, "{question}")
            .with_context(|| format!("{}: it reads no more", self.what))?;
        let line = self.line()?;
        let numbers: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        numbers
            .ok()
            .and_then(|numbers| numbers.try_into().ok())
            .with_context(|| format!("{}: {N} numbers expected, not {line:?}", self.what))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn family(&self) -> Result<Vec<u32>> {
        processes::family(self.pid())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("{}: it can't be signalled", self.what))
    }

    /// How long it takes from SIGTERM to its end.
    pub(crate) fn stop(mut self) -> Result<Duration> {
        let pidfd = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        let asked = Instant::now();
        self.signal(Signal::TERM)?;
        let patience = Timespec::try_from(PATIENCE)?;
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience))?;
        let took = asked.elapsed();
        ensure!(
            ended > 0,
            "{}: it goes on {PATIENCE:?} after SIGTERM",
            self.what
        );
        let status = self.child.wait()?;
        ensure!(status.success(), "{}: it ended with {status}", self.what);
        Ok(took)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Once it has been waited for, its id may be another's.
        if matches!(self.child.try_wait(), Ok(None)) {
            processes::kill(self.pid(), true);
        }
        let _ = self.child.wait();
    }
}

pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
    /// From its start until all its workers could be reached.
    pub(crate) start: Duration,
    _folder: Option<TempDir>,
}

impl Server {
    pub(crate) fn start(kind: Kind, workers: usize, python: Option<&Python>) -> Result<Server> {
        Server::start_with(kind, workers, python, &[])
    }

    pub(crate) fn start_with(
        kind: Kind,
        workers: usize,
        python: Option<&Python>,
        options: &[&str],
    ) -> Result<Server> {
        Server::start_at(free_address()?, kind, workers, python, options)
    }

    pub(crate) fn start_at(
        address: SocketAddr,
        kind: Kind,
        workers: usize,
        python: Option<&Python>,
        options: &[&str],
    ) -> Result<Server> {
        let mut launch = kind.launch(address, workers, python)?;
        launch.command.args(options);
        let started = Instant::now();
        let program = Program::start(kind.name, launch.command)?;
        let (ready, times) = launch.ready;
        for _ in 0..times {
            program.line_with(ready)?;
        }
        Ok(Server {
            program,
            address,
            start: started.elapsed(),
            _folder: launch.folder,
        })
    }
}

pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}
