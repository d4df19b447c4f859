//! A connection's requests on their way to the user's service, and its responses on their way back.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue};
use hyper::http::Extensions;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::service::TowerToHyperService;
use pin_project_lite::pin_project;

use super::peer::Peer;
use super::wire::Wire;
use crate::server::worker::Requests;
use crate::server::{Stopping, Worker, report};

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// A tower service that answers HTTP requests: `axum::Router`, tonic's `Routes`, `tower::service_fn(..)`.
///
/// It is there for every [`Service`](tower_service::Service) that takes `hyper::Request<hyper::body::Incoming>`, gives
/// `hyper::Response<B>` with any [`Body`], and can be cloned, which it is for each connection and each request. Neither
/// it nor its futures need be `Send`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't serve HTTP",
    label = "no clonable tower service of HTTP requests",
    note = "what can is `Clone + tower_service::Service<hyper::Request<hyper::body::Incoming>, Response = hyper::Response<B>>`, \
            `axum::Router` for example"
)]
pub trait HttpService:
    tower_service::Service<
        Request<Incoming>,
        Response = Response<Self::ResponseBody>,
        Error: Into<BoxError>,
        Future: 'static,
    > + Clone
    + 'static
{
    /// The body of its responses.
    type ResponseBody: Body<Data: 'static, Error: Into<BoxError>> + 'static;
}

#[diagnostic::do_not_recommend]
impl<S, B> HttpService for S
where
    S: tower_service::Service<Request<Incoming>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<BoxError>,
    S::Future: 'static,
    B: Body + 'static,
    B::Data: 'static,
    B::Error: Into<BoxError>,
{
    type ResponseBody = B;
}

/// What is called with each request.
pub(super) type OnRequest = Rc<dyn Fn(&mut Request<Incoming>)>;

/// What the requests of one connection have in common.
pub(super) struct Exchange {
    pub(super) worker: Worker,
    pub(super) stopping: Stopping,
    pub(super) peer: Option<Peer>,
    /// What each request gets of it.
    pub(super) extensions: Extensions,
    pub(super) on_request: Option<OnRequest>,
    pub(super) wire: Arc<Wire>,
    pub(super) requests: Rc<Requests>,
    /// The last error of the service. HTTP/2 goes on after it.
    pub(super) failure: RefCell<Option<BoxError>>,
}

impl Exchange {
    fn began(self: &Rc<Self>) -> InFlight {
        self.wire.request_began();
        self.requests.began();
        InFlight(Rc::clone(self))
    }

    /// To the log, where nobody is concerned but who looks for it.
    pub(super) fn tell(&self, what: &str, error: &dyn fmt::Display) {
        let identity = &self.worker.shared.identity;
        let peer = self.peer.as_ref().map(tracing::field::display);
        report::log!(debug, worker = identity.index, role = identity.role(), peer, %error, "{what}");
    }

    fn prepare(&self, request: &mut Request<Incoming>) {
        // Most requests have none yet, and take these as they are.
        request.extensions_mut().extend(self.extensions.clone());
        if let Some(on_request) = &self.on_request {
            on_request(request);
        }
    }
}

/// What a connection's requests tell of it.
pub(super) fn extensions(stopping: &Stopping, peer: Option<&Peer>) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(stopping.clone());
    if let Some(peer) = peer {
        #[cfg(feature = "axum")]
        if let Some(address) = peer.addr() {
            extensions.insert(axum::extract::ConnectInfo(address));
        }
        extensions.insert(peer.clone());
    }
    extensions
}

/// Held for as long as a request is handled and answered.
struct InFlight(Rc<Exchange>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.wire.request_ended();
        self.0.requests.ended();
    }
}

/// The user's service, as one connection uses it.
pub(super) struct Counted<S> {
    service: TowerToHyperService<S>,
    exchange: Rc<Exchange>,
}

impl<S> Counted<S> {
    pub(super) fn new(service: S, exchange: Rc<Exchange>) -> Counted<S> {
        Counted {
            service: TowerToHyperService::new(service),
            exchange,
        }
    }
}

impl<S: HttpService> hyper::service::Service<Request<Incoming>> for Counted<S> {
    type Response = Response<CountedBody<S::ResponseBody>>;
    type Error = BoxError;
    type Future =
        Answering<<TowerToHyperService<S> as hyper::service::Service<Request<Incoming>>>::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let in_flight = Some(self.exchange.began());
        self.exchange.prepare(&mut request);
        Answering {
            is_http2: request.version() == Version::HTTP_2,
            is_connect: request.method() == Method::CONNECT,
            answer: self.service.call(request),
            in_flight,
        }
    }
}

pin_project! {
    /// What makes a response.
    pub(super) struct Answering<F> {
        #[pin]
        answer: F,
        is_http2: bool,
        is_connect: bool,
        in_flight: Option<InFlight>,
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<CountedBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.answer.poll(cx)).map_err(Into::into);
        let in_flight = this.in_flight.take();
        Poll::Ready(match (answered, &in_flight) {
            (Ok(mut response), Some(InFlight(exchange))) => {
                let is_tunnel = *this.is_connect && response.status().is_success();
                if *this.is_http2 {
                    if is_tunnel {
                        exchange.wire.is_tunnel();
                    }
                } else if is_tunnel || response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    exchange.wire.is_upgraded();
                } else if exchange.worker.is_going() {
                    say_close(response.headers_mut());
                }
                Ok(response.map(|body| CountedBody { body, in_flight }))
            }
            (Err(error), Some(InFlight(exchange))) if *this.is_http2 => {
                let text = error.to_string();
                *exchange.failure.borrow_mut() = Some(error);
                Err(text.into())
            }
            (answered, _) => {
                answered.map(|response| response.map(|body| CountedBody { body, in_flight }))
            }
        })
    }
}

/// Has the client use another connection for its next request.
fn say_close(headers: &mut HeaderMap) {
    let mut kept: Vec<String> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        let tokens = value.to_str().unwrap_or_default().split(',');
        kept.extend(tokens.map(|token| token.trim().to_ascii_lowercase()));
    }
    kept.retain(|token| token != "keep-alive" && token != "close" && !token.is_empty());
    kept.push("close".to_owned());
    let close = match kept.len() {
        1 => HeaderValue::from_static("close"),
        _ => kept
            .join(", ")
            .parse()
            .unwrap_or(HeaderValue::from_static("close")),
    };
    headers.insert(CONNECTION, close);
}

pin_project! {
    /// A response's body, of which the end is the request's end.
    pub(super) struct CountedBody<B> {
        #[pin]
        body: B,
        in_flight: Option<InFlight>,
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_takes_the_place_of_keep_alive_and_stands_beside_the_rest() {
        for (before, after) in [
            (&[][..], "close"),
            (&["keep-alive"], "close"),
            (&["Keep-Alive, upgrade"], "upgrade, close"),
            (&["upgrade", "close"], "upgrade, close"),
        ] {
            let mut headers = HeaderMap::new();
            for value in before {
                headers.append(CONNECTION, HeaderValue::from_static(value));
            }
            say_close(&mut headers);
            let said: Vec<_> = headers.get_all(CONNECTION).iter().collect();
            assert_eq!(said, [after]);
        }
    }
}
