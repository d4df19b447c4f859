//! One connection, from its first byte to its end.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::draining::{Limits, Patience};
use super::service::{Counted, Exchange, HttpService};
use super::settings::Settings;
use super::streams::Executor;
use super::wire::{Phase, Protocol, Watched, Wire};
use crate::server::{Stopping, report};

/// Serves a connection until it is closed, by either side. Its errors are the service's.
pub(super) async fn serve<I, S>(
    io: I,
    service: S,
    settings: Rc<Settings>,
    exchange: Exchange,
) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService,
{
    let wire = Arc::clone(&exchange.wire);
    let exchange = Rc::new(exchange);
    let mut watch = Watch::new(&exchange, settings.limits);
    let mut io = Watched::new(io, Arc::clone(&wire));
    let _cut = Cut(&wire);
    let protocol = match watch.until(|cx, _| io.poll_protocol(cx)).await {
        End::Done(Ok(Some(protocol))) => protocol,
        End::Done(Ok(None)) | End::Idle => return Ok(()),
        End::Done(Err(error)) => {
            exchange.tell("a connection failed", &error);
            return Ok(());
        }
        End::Slow => {
            slow(&exchange, settings.limits);
            return Ok(());
        }
    };
    let service = Counted::new(service, Rc::clone(&exchange));
    let io = TokioIo::new(io);
    match protocol {
        Protocol::Http1 => {
            let connection = settings.http1.serve_connection(io, service);
            let ended = {
                let mut connection = pin!(connection.with_upgrades());
                watch.until(|cx, _| connection.as_mut().poll(cx)).await
            };
            end(&exchange, settings.limits, ended)?;
            wire.gone().await;
        }
        Protocol::Http2 => {
            wire.is_framed();
            let streams = Executor::default();
            let _streams = streams.owned();
            let builder = settings.http2(streams.clone());
            let mut connection = pin!(builder.serve_connection(io, service));
            let mut is_told = false;
            let ended = watch
                .until(|cx, is_stopping| {
                    let mut ended = connection.as_mut().poll(cx);
                    // A client doesn't expect GOAWAY on a connection that it has just opened, before its first request.
                    if is_stopping && !is_told && ended.is_pending() && wire.requests() > 0 {
                        is_told = true;
                        connection.as_mut().graceful_shutdown();
                        ended = connection.as_mut().poll(cx);
                    }
                    streams.poll_ended(cx, |error| panicked(&exchange, error));
                    ended
                })
                .await;
            end(&exchange, settings.limits, ended)?;
        }
    }
    Ok(())
}

/// An IO that has been upgraded is not to outlive its connection's time.
struct Cut<'a>(&'a Wire);

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// How a connection came to its end.
enum End<T> {
    /// By itself.
    Done(T),
    /// It was idle for too long.
    Idle,
    /// A head took too long.
    Slow,
}

/// Watches over a connection's time.
struct Watch {
    wire: Arc<Wire>,
    stopping: Stopping,
    limits: Limits,
    patience: Patience,
    timer: Option<Pin<Box<Sleep>>>,
    /// Before it is closed, the event loop looks once more whether something has come in.
    last_look: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Watch {
    fn new(exchange: &Exchange, limits: Limits) -> Watch {
        Watch {
            wire: Arc::clone(&exchange.wire),
            stopping: exchange.stopping.clone(),
            limits,
            patience: Patience::default(),
            timer: None,
            last_look: None,
        }
    }

    /// Polls what the connection does, which is told whether the worker is to stop, until it is done or its time is over.
    async fn until<T>(&mut self, mut act: impl FnMut(&mut Context<'_>, bool) -> Poll<T>) -> End<T> {
        poll_fn(|cx| self.poll(cx, &mut act)).await
    }

    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        act: &mut impl FnMut(&mut Context<'_>, bool) -> Poll<T>,
    ) -> Poll<End<T>> {
        loop {
            if let Poll::Ready(done) = act(cx, self.patience.is_stopping()) {
                return Poll::Ready(End::Done(done));
            }
            if !self.patience.is_stopping() {
                if let Poll::Ready(stop) = Pin::new(&mut self.stopping).poll(cx) {
                    let idle_until = self.limits.idle_until(&stop, Instant::now());
                    self.patience.stopping(idle_until);
                    continue;
                }
            }
            let phase = self.wire.phase();
            // The usual case: no clock is read and no timer set.
            if phase == Phase::Busy || (phase == Phase::Idle && !self.patience.is_stopping()) {
                self.last_look = None;
                return Poll::Pending;
            }
            let requests = self.wire.requests();
            let until = self
                .patience
                .until(phase, requests, Instant::now(), &self.limits);
            let Some(until) = until else {
                return Poll::Pending;
            };
            if self.poll_timer(cx, until).is_pending() {
                self.last_look = None;
                return Poll::Pending;
            }
            let last_look = self
                .last_look
                .get_or_insert_with(|| Box::pin(tokio::task::yield_now()));
            return match (last_look.as_mut().poll(cx), phase) {
                (Poll::Pending, _) => Poll::Pending,
                (Poll::Ready(()), Phase::Head) => Poll::Ready(End::Slow),
                (Poll::Ready(()), _) => Poll::Ready(End::Idle),
            };
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }
}

/// Tells a connection's end, and gives the error of its service.
fn end(exchange: &Exchange, limits: Limits, ended: End<hyper::Result<()>>) -> io::Result<()> {
    match ended {
        End::Done(Ok(())) | End::Idle => {}
        End::Slow => slow(exchange, limits),
        End::Done(Err(error)) if error.is_user() => return Err(io::Error::other(error)),
        End::Done(Err(error)) => {
            if is_clients(&error) {
                exchange.requests.refuse();
            }
            exchange.tell("a connection failed", &error);
        }
    }
    match exchange.failure.borrow_mut().take() {
        Some(error) => Err(io::Error::other(error)),
        None => Ok(()),
    }
}

/// Whether what the client sent was wrong, rather than that it went away.
fn is_clients(error: &hyper::Error) -> bool {
    let is_gone = error.is_incomplete_message() || error.is_canceled() || error.is_closed();
    // What HTTP/2 finds wrong has a source of its own, and so has what the system says.
    let is_of_protocol = error
        .source()
        .is_some_and(|source| !source.is::<io::Error>());
    !is_gone && (error.is_parse() || error.is_timeout() || is_of_protocol)
}

fn slow(exchange: &Exchange, limits: Limits) {
    exchange.requests.refuse();
    let limit = limits.head;
    exchange.tell(
        "a connection is closed",
        &format_args!("the head of its request took longer than {limit:?}"),
    );
}

fn panicked(exchange: &Exchange, error: String) {
    let identity = &exchange.worker.shared.identity;
    report::log!(error, worker = identity.index, role = identity.role(), %error, "a request's handler panicked");
    *exchange.failure.borrow_mut() = Some("a request's handler panicked".into());
}
