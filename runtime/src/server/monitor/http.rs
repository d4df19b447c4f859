//! Commands over HTTP, and what is common to all that speak it here.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::clients::Client;
use super::desk::{Asker, Desk, Following, Given, Progress};
use super::reply::{Kind, Refused, Reply};
use super::vocabulary::{Command, May, words};

/// What a client gets to send the head of its request.
const HEAD: Duration = Duration::from_secs(5);
/// The most bytes of a head.
const LONGEST_HEAD: usize = 64 * 1024;
/// The most bytes of a body.
const LONGEST_BODY: usize = 64 * 1024;

pub(super) const JSON: &str = "application/json";
/// The text format of Prometheus.
pub(super) const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON_LINES: &str = "application/x-ndjson";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// A whole body, or one that goes on.
pub(super) enum Content {
    Whole(Option<Bytes>),
    Lines(mpsc::Receiver<Bytes>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Content::Whole(bytes) => bytes.take(),
            Content::Lines(lines) => ready!(lines.poll_recv(cx)),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Content::Whole(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Content::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Content::Lines(_) => hyper::body::SizeHint::default(),
        }
    }
}

pub(super) fn response(
    status: StatusCode,
    content_type: &'static str,
    text: impl Into<Bytes>,
) -> Response<Content> {
    with_content(status, content_type, Content::Whole(Some(text.into())))
}

fn with_content(
    status: StatusCode,
    content_type: &'static str,
    content: Content,
) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.parse().expect("a static header"));
    headers.insert(CACHE_CONTROL, "no-store".parse().expect("a static header"));
    response
}

/// One request, answered by `handle`, and the end.
pub(super) async fn serve<S, H, F>(stream: S, handle: H) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Content>>,
{
    let service = service_fn(|request| {
        let answered = handle(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

/// Commands of somebody who was let in, and of whom `begin` has been read.
pub(super) async fn serve_operator(
    stream: UnixStream,
    begin: Vec<u8>,
    desk: Rc<Desk>,
    asker: Asker,
    client: Rc<Client>,
) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let stream = tokio::io::join(io::Cursor::new(begin).chain(reader), writer);
    serve(stream, |request| {
        let (desk, client) = (Rc::clone(&desk), Rc::clone(&client));
        async move {
            client.served();
            let format = Format::wanted(&request);
            let allowed = match *request.method() {
                Method::GET | Method::HEAD => "POST",
                _ => "GET, HEAD, POST",
            };
            let answered = answer(request, desk, asker, &client, format).await;
            if !matches!(&answered, Ok(response) if matches!(response.body(), Content::Lines(_))) {
                client.waited_for();
            }
            match answered {
                Ok(response) => response,
                Err(refused) => refusal(&refused, format, allowed),
            }
        }
    })
    .await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Text,
}

impl Format {
    /// JSON, if it isn't text that is asked for.
    fn wanted(request: &Request<Incoming>) -> Format {
        let accept = request.headers().get(ACCEPT);
        let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or("");
        match accept.trim_start().starts_with("text/plain") {
            true => Format::Text,
            false => Format::Json,
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    desk: Rc<Desk>,
    asker: Asker,
    client: &Rc<Client>,
    format: Format,
) -> Result<Response<Content>, Refused> {
    let may = match *request.method() {
        Method::GET | Method::HEAD => May::Look,
        Method::POST => May::LookAndAct,
        ref method => {
            return Err(Refused::not_allowed(format!(
                "{method} is neither GET nor POST"
            )));
        }
    };
    let mut asked = words_of_path(request.uri().path());
    asked.extend(words_of_query(request.uri().query().unwrap_or("")));
    if may == May::LookAndAct {
        client.waited_for();
        let body = read(request.into_body()).await?;
        client.served();
        asked.extend(words(&body)?);
    }
    if asked.is_empty() {
        asked.push("help".to_owned());
    }
    let command = Command::read(&asked, may)?;
    match desk.carry_out(command, asker).await? {
        Given::Reply(reply @ Reply::Accepted { .. }) => {
            client.served_for_long();
            Ok(until_the_end(said(&reply, format)?, desk, format))
        }
        Given::Reply(reply) => written(&reply, format),
        Given::Acting(mut progress) => {
            client.served_for_long();
            while let Some(step) = progress.recv().await {
                if let Progress::Done(done) = step {
                    return written(&done?, format);
                }
            }
            Err(Refused::unavailable("the server has ended"))
        }
        Given::Following(following) => {
            client.served_for_long();
            Ok(follow(following, client, format))
        }
    }
}

fn written(reply: &Reply, format: Format) -> Result<Response<Content>, Refused> {
    let content_type = match (reply, format) {
        // As Prometheus wants it.
        (Reply::Metrics { .. }, Format::Json) => METRICS,
        (_, Format::Json) => JSON,
        (_, Format::Text) => TEXT,
    };
    Ok(response(StatusCode::OK, content_type, said(reply, format)?))
}

fn said(reply: &Reply, format: Format) -> Result<String, Refused> {
    Ok(match (reply, format) {
        (Reply::Metrics { metrics }, Format::Json) => metrics.clone(),
        (_, Format::Json) => reply.json()? + "\n",
        (_, Format::Text) => reply.text(),
    })
}

/// A body that says at once what there is to say, and whose end is that of the server.
fn until_the_end(said: String, desk: Rc<Desk>, format: Format) -> Response<Content> {
    let (sender, lines) = mpsc::channel(1);
    tokio::task::spawn_local(async move {
        // Whoever has asked may be gone.
        let _ = sender.send(said.into()).await;
        tokio::select! {
            () = desk.ended() => {}
            () = sender.closed() => {}
        }
    });
    let content_type = match format {
        Format::Json => JSON,
        Format::Text => TEXT,
    };
    with_content(StatusCode::ACCEPTED, content_type, Content::Lines(lines))
}

/// `allowed` are the methods by which it would not be refused for its method.
fn refusal(refused: &Refused, format: Format, allowed: &'static str) -> Response<Content> {
    let status = match refused.kind {
        Kind::Unknown => StatusCode::NOT_FOUND,
        Kind::Wrong => StatusCode::BAD_REQUEST,
        Kind::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::Busy => StatusCode::CONFLICT,
        Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = match format {
        Format::Json => response(
            status,
            JSON,
            serde_json::to_string(refused).unwrap_or_default() + "\n",
        ),
        Format::Text => response(status, TEXT, refused.text()),
    };
    if refused.kind == Kind::NotAllowed {
        let allowed = allowed.parse().expect("a static header");
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

/// A line for each event, for as long as the client is there and reads.
fn follow(mut following: Following, client: &Rc<Client>, format: Format) -> Response<Content> {
    let (sender, lines) = mpsc::channel(1);
    let client = Rc::downgrade(client);
    tokio::task::spawn_local(async move {
        loop {
            let events = tokio::select! {
                events = following.next() => events,
                () = sender.closed() => return,
            };
            let (Some(events), Some(client)) = (events, client.upgrade()) else {
                return;
            };
            let text: String = events
                .iter()
                .map(|event| match format {
                    Format::Json => serde_json::to_string(event).unwrap_or_default() + "\n",
                    Format::Text => event.text(),
                })
                .collect();
            // What it reads no more of within this time, it won't.
            client.served();
            if sender.send(text.into()).await.is_err() {
                return;
            }
            client.served_for_long();
        }
    });
    let content_type = match format {
        Format::Json => JSON_LINES,
        Format::Text => TEXT,
    };
    with_content(StatusCode::OK, content_type, Content::Lines(lines))
}

async fn read(mut body: Incoming) -> Result<String, Refused> {
    let mut read = Vec::new();
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let Some(frame) = frame else { break };
        let frame =
            frame.map_err(|error| Refused::wrong(format!("the body can't be read: {error}")))?;
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > LONGEST_BODY {
            return Err(Refused::wrong(format!(
                "a body has at most {LONGEST_BODY} bytes"
            )));
        }
    }
    String::from_utf8(read).map_err(|_| Refused::wrong("the body is no text"))
}

fn words_of_path(path: &str) -> Vec<String> {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.map(decoded).collect()
}

/// `?n=4` is an argument as `/4` is; `?follow` is `--follow`.
fn words_of_query(query: &str) -> Vec<String> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let words = parts.filter_map(|part| match part.split_once('=') {
        None | Some((_, "" | "true" | "1")) if part.starts_with("follow") => {
            Some("--follow".to_owned())
        }
        Some(("follow", _)) => None,
        None => Some(decoded(part)),
        Some((_, value)) => Some(decoded(value)),
    });
    words.collect()
}

/// Without percent signs.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_a_query_are_words() {
        assert_eq!(
            words_of_path("/restart/the%20exporter"),
            ["restart", "the exporter"]
        );
        assert_eq!(words_of_path("/a//%zz%"), ["a", "%zz%"]);
        assert_eq!(words_of_query("follow&n=4"), ["--follow", "4"]);
        assert_eq!(words_of_query("follow=true"), ["--follow"]);
        assert_eq!(words_of_query("follow=false").len(), 0);
    }
}
