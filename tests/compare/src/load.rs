//! The load generator: as many clients as connections, each with one request under way, for a fixed time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time;

const MESSAGE: usize = 64;

/// After a failure, so that a server that is gone doesn't make for millions of them.
const PAUSE: Duration = Duration::from_millis(10);

/// What is asked of a server that echoes.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    /// A connection for each request.
    pub(crate) fresh: bool,
    /// For a connection, and for a request.
    pub(crate) timeout: Duration,
}

/// How a connection failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    Refused,
    Reset,
    TimedOut,
    ClosedEarly,
    WrongBytes,
    Other(String),
}

impl Failure {
    fn from(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Failure::Reset,
            io::ErrorKind::TimedOut => Failure::TimedOut,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => Failure::ClosedEarly,
            _ => Failure::Other(error.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("refused"),
            Failure::Reset => f.write_str("reset"),
            Failure::TimedOut => f.write_str("timed out"),
            Failure::ClosedEarly => f.write_str("closed early"),
            Failure::WrongBytes => f.write_str("wrong bytes"),
            Failure::Other(error) => write!(f, "other: {error}"),
        }
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Failed connections by kind; one that a request fails on is a failed one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Failures(BTreeMap<Failure, u64>);

impl Default for Failures {
    /// None of each kind, so that it is told which were looked for.
    fn default() -> Failures {
        use Failure::*;
        let kinds = [Refused, Reset, TimedOut, ClosedEarly, WrongBytes];
        Failures(kinds.into_iter().map(|kind| (kind, 0)).collect())
    }
}

impl Failures {
    fn count(&mut self, failure: Failure) {
        *self.0.entry(failure).or_default() += 1;
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.values().sum()
    }

    fn add(&mut self, other: &Failures) {
        for (failure, count) in &other.0 {
            *self.0.entry(failure.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = self.0.iter().filter(|(_, count)| **count > 0);
        let kinds: Vec<String> = some
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        match kinds.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&kinds.join(", ")),
        }
    }
}

/// Failures, and of how many connections.
#[derive(Default)]
pub(crate) struct Failed {
    pub(crate) failures: Failures,
    pub(crate) connections: u64,
}

impl Failed {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.failures.add(&outcome.failures);
        self.connections += outcome.connections;
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.failures, self.connections)
    }
}

/// What became of it.
pub(crate) struct Outcome {
    /// Answered, with the right bytes.
    pub(crate) requests: u64,
    /// Made, or tried to make.
    pub(crate) connections: u64,
    pub(crate) took: Duration,
    /// In nanoseconds; on fresh connections with the time to connect.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) failures: Failures,
}

#[derive(Serialize)]
struct Report<'a> {
    seconds: f64,
    connections: u64,
    requests: u64,
    requests_per_second: f64,
    latency_us: Latency,
    failed: &'a Failures,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    /// In microseconds.
    pub(crate) fn latency(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }

    /// As if both had been one after the other.
    pub(crate) fn add(&mut self, other: &Outcome) -> Result<()> {
        self.requests += other.requests;
        self.connections += other.connections;
        self.took += other.took;
        self.failures.add(&other.failures);
        self.latencies
            .add(&other.latencies)
            .context("latencies can't be added")
    }

    pub(crate) fn json(&self) -> Result<String> {
        let report = Report {
            seconds: self.took.as_secs_f64(),
            connections: self.connections,
            requests: self.requests,
            requests_per_second: self.per_second(),
            latency_us: Latency {
                p50: self.latency(0.5),
                p90: self.latency(0.9),
                p99: self.latency(0.99),
                max: self.latency(1.0),
            },
            failed: &self.failures,
        };
        serde_json::to_string_pretty(&report).context("the report can't be written as JSON")
    }
}

/// Those who ask; what isn't fresh stays connected from one run to the next.
pub(crate) struct Clients {
    load: Load,
    clients: Vec<Client>,
}

struct Client {
    /// Of its last request; no two requests have the same.
    number: u64,
    stream: Option<TcpStream>,
}

impl Load {
    pub(crate) fn clients(self) -> Clients {
        let client = |client| Client {
            number: client << 32,
            stream: None,
        };
        Clients {
            load: self,
            clients: (0..self.connections as u64).map(client).collect(),
        }
    }
}

impl Clients {
    /// For so long, and until all that was asked is answered.
    pub(crate) async fn run(&mut self, duration: Duration) -> Result<Outcome> {
        let latencies = Histogram::new(3).context("a histogram of latencies")?;
        let outcome = RefCell::new(Outcome {
            requests: 0,
            connections: 0,
            took: Duration::ZERO,
            latencies,
            failures: Failures::default(),
        });
        let start = Instant::now();
        let end = start + duration;
        let clients = self.clients.iter_mut();
        join_all(clients.map(|client| client.run(self.load, end, &outcome))).await;
        let mut outcome = outcome.into_inner();
        outcome.took = start.elapsed();
        Ok(outcome)
    }
}

impl Client {
    async fn run(&mut self, load: Load, end: Instant, outcome: &RefCell<Outcome>) {
        while Instant::now() < end {
            if let Err(failure) = self.ask(load, end, outcome).await {
                outcome.borrow_mut().failures.count(failure);
                time::sleep(PAUSE).await;
            }
        }
    }

    /// On one connection, until the time is over or, a fresh one, for one request.
    async fn ask(
        &mut self,
        load: Load,
        end: Instant,
        outcome: &RefCell<Outcome>,
    ) -> Result<(), Failure> {
        let mut start = Instant::now();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                outcome.borrow_mut().connections += 1;
                let stream = load.in_time(TcpStream::connect(load.address)).await?;
                stream
                    .set_nodelay(true)
                    .map_err(|error| Failure::from(&error))?;
                stream
            }
        };
        if !load.fresh {
            start = Instant::now();
        }
        loop {
            self.number += 1;
            load.in_time(request(&mut stream, self.number)).await??;
            let now = Instant::now();
            let mut outcome = outcome.borrow_mut();
            outcome.requests += 1;
            // A histogram that grows by itself takes any.
            outcome.latencies += u64::try_from((now - start).as_nanos()).unwrap_or(u64::MAX);
            if load.fresh {
                return Ok(());
            }
            if now >= end {
                self.stream = Some(stream);
                return Ok(());
            }
            start = now;
        }
    }
}

impl Load {
    async fn in_time<T>(self, work: impl Future<Output = io::Result<T>>) -> Result<T, Failure> {
        match time::timeout(self.timeout, work).await {
            Ok(done) => done.map_err(|error| Failure::from(&error)),
            Err(_) => Err(Failure::TimedOut),
        }
    }
}

/// With a number of its own, so that another's answer is a wrong one.
async fn request(stream: &mut TcpStream, number: u64) -> io::Result<Result<(), Failure>> {
    let mut message = [7; MESSAGE];
    message[..8].copy_from_slice(&number.to_le_bytes());
    stream.write_all(&message).await?;
    let mut answer = [0; MESSAGE];
    stream.read_exact(&mut answer).await?;
    Ok(match answer == message {
        true => Ok(()),
        false => Err(Failure::WrongBytes),
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const TIME: Duration = Duration::from_millis(100);

    fn load(address: SocketAddr, fresh: bool) -> Load {
        Load {
            address,
            connections: 4,
            fresh,
            timeout: Duration::from_millis(50),
        }
    }

    /// What becomes of a load on a server that does this with its connections.
    async fn outcome<F, Fut>(fresh: bool, handle: F) -> Outcome
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(handle(stream));
            }
        });
        let outcome = load(address, fresh).clients().run(TIME).await.unwrap();
        server.abort();
        outcome
    }

    #[track_caller]
    fn all_failed(outcome: &Outcome, kind: Failure) {
        let mut failures = Failures::default();
        failures.0.insert(kind, outcome.connections);
        assert!(outcome.connections >= 4);
        assert_eq!((outcome.requests, &outcome.failures), (0, &failures));
    }

    async fn message(stream: &mut TcpStream) -> io::Result<[u8; MESSAGE]> {
        let mut message = [0; MESSAGE];
        stream.read_exact(&mut message).await?;
        Ok(message)
    }

    #[tokio::test]
    async fn an_echo_is_answered() {
        for fresh in [false, true] {
            let outcome = outcome(fresh, crate::serve::echo).await;
            assert_eq!(outcome.failures, Failures::default());
            assert!(outcome.requests > 4);
            assert_eq!(outcome.latencies.len(), outcome.requests);
            let connections = if fresh { outcome.requests } else { 4 };
            assert_eq!(outcome.connections, connections);
        }
    }

    #[tokio::test]
    async fn persistent_connections_last_from_run_to_run() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut clients = load(listener.local_addr().unwrap(), false).clients();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(crate::serve::echo(stream));
            }
        });
        let first = clients.run(TIME).await.unwrap();
        let second = clients.run(TIME).await.unwrap();
        server.abort();
        assert_eq!((first.connections, second.connections), (4, 0));
        assert!(second.requests > 0);
    }

    #[tokio::test]
    async fn no_listener_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let outcome = load(address, true).clients().run(TIME).await.unwrap();
        all_failed(&outcome, Failure::Refused);
    }

    #[tokio::test]
    async fn a_close_with_bytes_unread_resets() {
        let outcome = outcome(false, async |stream: TcpStream| {
            stream.peek(&mut [0]).await.map(drop)
        });
        all_failed(&outcome.await, Failure::Reset);
    }

    #[tokio::test]
    async fn silence_times_out() {
        let outcome = outcome(false, async |mut stream: TcpStream| {
            message(&mut stream).await?;
            std::future::pending().await
        });
        all_failed(&outcome.await, Failure::TimedOut);
    }

    #[tokio::test]
    async fn half_an_answer_is_closed_early() {
        let outcome = outcome(true, async |mut stream: TcpStream| {
            let message = message(&mut stream).await?;
            stream.write_all(&message[1..]).await
        });
        all_failed(&outcome.await, Failure::ClosedEarly);
    }

    #[tokio::test]
    async fn another_answer_has_wrong_bytes() {
        let outcome = outcome(true, async |mut stream: TcpStream| {
            let mut message = message(&mut stream).await?;
            message.reverse();
            stream.write_all(&message).await
        });
        all_failed(&outcome.await, Failure::WrongBytes);
    }

    #[test]
    fn another_error_is_told_as_it_is() {
        let failure = Failure::from(&io::Error::other("no buffer space"));
        let mut failures = Failures::default();
        failures.count(failure.clone());
        failures.count(failure);
        failures.count(Failure::Reset);
        assert_eq!(failures.to_string(), "1 reset, 2 other: no buffer space");
        assert_eq!(Failures::default().to_string(), "none");
    }
}
