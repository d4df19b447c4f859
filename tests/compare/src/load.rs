//! The load generator: as many clients as connections, each with one request under way.

pub(crate) mod http2;
mod protocol;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time;

use crate::failures::{Failure, Failures};

pub(crate) use protocol::Protocol;

/// So that a server that is gone doesn't make for millions of them.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What is asked of a server that echoes.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    /// A connection for each request.
    pub(crate) fresh: bool,
    /// Between a client's requests: from none to less than this, each time another.
    pub(crate) pauses: Duration,
    /// For a connection, and for a request.
    pub(crate) timeout: Duration,
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
    pub(crate) fn none() -> Result<Outcome> {
        Ok(Outcome {
            requests: 0,
            connections: 0,
            took: Duration::ZERO,
            latencies: Histogram::new(3).context("a histogram of latencies")?,
            failures: Failures::default(),
        })
    }

    fn answered(&mut self, latency: Duration) {
        self.requests += 1;
        // A histogram that grows by itself takes any.
        self.latencies += u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    }

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

    /// Of all that were made, or tried to make.
    pub(crate) fn failed_connections(&self) -> String {
        format!("{} of {}", self.failures, self.connections)
    }

    /// Requests that weren't answered, of all.
    pub(crate) fn lost(&self) -> String {
        let lost = self.failures.sum();
        format!("{lost} of {}", self.requests + lost)
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
    /// On connections that are kept, without pauses.
    pub(crate) fn new(address: SocketAddr, protocol: Protocol) -> Load {
        Load {
            address,
            protocol,
            connections: 64,
            fresh: false,
            pauses: Duration::ZERO,
            timeout: Duration::from_secs(10),
        }
    }

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

    /// In which client and request are spread over all lengths.
    fn pause(self, place: u64) -> Duration {
        self.pauses.mul_f64((place % 16) as f64 / 16.0)
    }

    async fn in_time<T, E>(self, work: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        match time::timeout(self.timeout, work).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Failure::TimedOut),
        }
    }
}

impl Clients {
    /// For so long, and until all that was asked is answered.
    pub(crate) async fn run(&mut self, duration: Duration) -> Result<Outcome> {
        let end = Instant::now() + duration;
        self.run_while(|| Instant::now() < end).await
    }

    /// As long as `goes_on`, and until all that was asked is answered.
    pub(crate) async fn run_while(&mut self, goes_on: impl Fn() -> bool) -> Result<Outcome> {
        let outcome = RefCell::new(Outcome::none()?);
        let start = Instant::now();
        let clients = self.clients.iter_mut();
        join_all(clients.map(|client| client.run(self.load, &goes_on, &outcome))).await;
        let mut outcome = outcome.into_inner();
        outcome.took = start.elapsed();
        Ok(outcome)
    }
}

impl Client {
    async fn run(&mut self, load: Load, goes_on: &impl Fn() -> bool, outcome: &RefCell<Outcome>) {
        while goes_on() {
            if !load.pauses.is_zero() {
                time::sleep(load.pause(self.number + (self.number >> 32))).await;
            }
            if let Err(failure) = self.ask(load, outcome).await {
                outcome.borrow_mut().failures.count(failure);
                time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }

    /// Once; the connection is there for the next time, unless it is a fresh one or the server closes it.
    async fn ask(&mut self, load: Load, outcome: &RefCell<Outcome>) -> Result<(), Failure> {
        let mut start = Instant::now();
        let kept = self.stream.take();
        let kept = kept.filter(|stream| !load.protocol.finds_closed(stream));
        let mut stream = match kept {
            Some(stream) => stream,
            None => {
                outcome.borrow_mut().connections += 1;
                let stream = load.in_time(TcpStream::connect(load.address)).await?;
                stream.set_nodelay(true)?;
                if !load.fresh {
                    start = Instant::now();
                }
                stream
            }
        };
        self.number += 1;
        let asked = load.protocol.ask(&mut stream, self.number);
        let stays = load.in_time(asked).await?;
        outcome.borrow_mut().answered(start.elapsed());
        if stays && !load.fresh {
            self.stream = Some(stream);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::protocol::MESSAGE;
    use crate::serve::echo;

    use super::*;

    const TIME: Duration = Duration::from_millis(500);

    fn load(address: SocketAddr, fresh: bool) -> Load {
        Load {
            connections: 4,
            fresh,
            ..Load::new(address, Protocol::Bytes)
        }
    }

    /// What becomes of a load on a server that does this with its connections.
    async fn outcome<F, Fut>(fresh: bool, handle: F) -> Outcome
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        outcome_within(Duration::from_secs(60), fresh, handle).await
    }

    async fn outcome_within<F, Fut>(timeout: Duration, fresh: bool, handle: F) -> Outcome
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
        let load = Load {
            timeout,
            ..load(address, fresh)
        };
        let outcome = load.clients().run(TIME).await.unwrap();
        server.abort();
        outcome
    }

    #[track_caller]
    fn all_failed(outcome: &Outcome, kind: Failure) {
        let mut failures = Failures::default();
        (0..outcome.connections).for_each(|_| failures.count(kind.clone()));
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
            let outcome = outcome(fresh, echo).await;
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
                tokio::spawn(echo(stream));
            }
        });
        let first = clients.run(TIME).await.unwrap();
        let second = clients.run(TIME).await.unwrap();
        server.abort();
        assert_eq!((first.connections, second.connections), (4, 0));
        assert!(second.requests > 0);
    }

    #[tokio::test]
    async fn a_connection_that_http_closes_between_requests_is_made_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                let query = std::str::from_utf8(&request[6..length]).unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\n\r\n{}", &query[..MESSAGE]);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let load = Load {
            pauses: Duration::from_millis(20),
            connections: 4,
            ..Load::new(address, Protocol::Http)
        };
        let outcome = load.clients().run(TIME).await.unwrap();
        server.abort();
        assert!(outcome.requests > 4);
        assert_eq!(outcome.connections, outcome.requests);
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
        let patience = Duration::from_millis(50);
        let outcome = outcome_within(patience, false, async |mut stream: TcpStream| {
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
}
