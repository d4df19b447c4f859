//! Serves the page, and passes its commands on to the server's door.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::handshake;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName,
    HeaderValue, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::Semaphore;

use super::gate::{Admitted, Gate, Secret};
use crate::door::Meant;

/// With `NONCE` where the one goes that lets its style and its script be.
const PAGE: &str = include_str!("page.html");
/// What a client gets to send the head of its next request.
const HEAD: Duration = Duration::from_secs(5);
/// How many connections there may be at once, of whomever.
const CONNECTIONS: usize = 64;
/// What follows when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// What is served, to whom, and from where it comes.
pub(crate) struct Served {
    gate: Mutex<Gate>,
    meant: Meant,
    /// The server's.
    name: String,
    door: Mutex<PathBuf>,
    /// Called once the token was used.
    entered: Box<dyn Fn() + Send + Sync>,
}

impl Served {
    pub(crate) fn new(
        gate: Gate,
        meant: Meant,
        name: String,
        door: PathBuf,
        entered: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Served> {
        Arc::new(Served {
            gate: Mutex::new(gate),
            meant,
            name,
            door: Mutex::new(door),
            entered: Box::new(entered),
        })
    }

    /// Without an end.
    pub(crate) async fn serve(self: Arc<Served>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                continue;
            };
            let served = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = Arc::clone(&served).answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                // How a client comes to its end is its own business.
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                drop(place);
            });
        }
    }

    async fn answer(self: Arc<Served>, request: Request<Incoming>) -> Response<Content> {
        let admitted = lock(&self.gate).admit(&request);
        let mut response = match admitted {
            Ok(Admitted::Exchanged { cookie }) => {
                (self.entered)();
                let mut page = page();
                match HeaderValue::try_from(cookie) {
                    Ok(cookie) => drop(page.headers_mut().insert(SET_COOKIE, cookie)),
                    Err(error) => page = failed(&error.to_string()),
                }
                page
            }
            Ok(Admitted::Known) => match (request.method(), request.uri().path()) {
                (&Method::GET | &Method::HEAD, "/") => page(),
                (&Method::GET, "/door") => {
                    let open = self.door().await.is_ok();
                    json(StatusCode::OK, &serde_json::json!({ "open": open }))
                }
                _ => match self.pass(request).await {
                    Ok(response) => response,
                    Err(error) => failed(&error.to_string()),
                },
            },
            // A person reads what is said of the page itself.
            Err(refused) if request.uri().path() == "/" => {
                let text = format!("{}\n", refused.text());
                with(refused.status(), "text/plain; charset=utf-8", text)
            }
            Err(refused) => json(refused.status(), &error(refused.text())),
        };
        let headers = response.headers_mut();
        let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.entry(CONTENT_SECURITY_POLICY).or_insert(nothing);
        for (name, value) in [
            (CACHE_CONTROL, "no-store"),
            (REFERRER_POLICY, "no-referrer"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// Passes a command on, and its reply back as it comes.
    async fn pass(&self, request: Request<Incoming>) -> io::Result<Response<Content>> {
        let stream = self.door().await?;
        let (mut door, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // It ends with the reply, or with whoever waits for that.
        tokio::spawn(connection);
        let (head, body) = request.into_parts();
        let mut passed = Request::new(body);
        *passed.method_mut() = head.method;
        *passed.uri_mut() = match head.uri.path_and_query() {
            Some(path) => Uri::from(path.clone()),
            None => Uri::from_static("/"),
        };
        let headers = passed.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("aioxide"));
        if let Some(accept) = head.headers.get(ACCEPT) {
            headers.insert(ACCEPT, accept.clone());
        }
        let (head, body) = door
            .send_request(passed)
            .await
            .map_err(io::Error::other)?
            .into_parts();
        let mut response = Response::new(Content::Passed(body));
        *response.status_mut() = head.status;
        for name in [CONTENT_TYPE, ALLOW] {
            if let Some(value) = head.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    }

    /// A connection to the server, also to one that was started again.
    async fn door(&self) -> io::Result<UnixStream> {
        let door = lock(&self.door).clone();
        let error = match UnixStream::connect(&door).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let (meant, name) = (self.meant.clone(), self.name.clone());
        let found = tokio::task::spawn_blocking(move || meant.find_again(&name)).await;
        match found {
            Ok(Ok(found)) if found != door => {
                let stream = UnixStream::connect(&found).await?;
                *lock(&self.door) = found;
                Ok(stream)
            }
            _ => Err(error),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn page() -> Response<Content> {
    let nonce = match Secret::random() {
        Ok(nonce) => nonce,
        Err(error) => return failed(&error.to_string()),
    };
    let nonce = nonce.as_str();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    );
    let page = PAGE.replace("NONCE", nonce);
    let mut response = with(StatusCode::OK, "text/html; charset=utf-8", page);
    match HeaderValue::try_from(policy) {
        Ok(policy) => drop(
            response
                .headers_mut()
                .insert(CONTENT_SECURITY_POLICY, policy),
        ),
        Err(error) => return failed(&error.to_string()),
    }
    response
}

fn failed(why: &str) -> Response<Content> {
    let why = format!("the server can't be reached: {why}");
    json(StatusCode::SERVICE_UNAVAILABLE, &error(&why))
}

fn error(why: &str) -> serde_json::Value {
    serde_json::json!({ "error": why })
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Content> {
    with(status, "application/json", format!("{value}\n"))
}

fn with(status: StatusCode, content_type: &'static str, text: String) -> Response<Content> {
    let mut response = Response::new(Content::from(text));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A body of our own, or the door's.
enum Content {
    Whole(Option<Bytes>),
    Passed(Incoming),
}

impl From<String> for Content {
    fn from(text: String) -> Content {
        Content::Whole(Some(text.into()))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Passed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Passed(body) => body.size_hint(),
        }
    }
}
