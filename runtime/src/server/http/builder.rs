//! A service and how it is served as HTTP.

use std::fmt;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection;
use super::peer::Peer;
use super::service::{Exchange, HttpService, extensions};
use super::settings::Settings;
use super::streams::Executor;
use super::wire::Wire;
use crate::server::worker::Requests;
use crate::server::{Stopping, Worker};

/// A service and how it is served as HTTP: HTTP/1.1 and HTTP/2, by what the client speaks.
///
/// Without settings, [`Worker::serve_http`] takes the service itself. With them it takes this:
///
/// ```no_run
/// use std::time::Duration;
/// use aioxide::{Worker, http::Http, server};
/// use axum::{Router, routing::get};
///
/// #[server(workers = 4)]
/// async fn main(worker: Worker) -> std::io::Result<()> {
///     let listener = worker.listen("127.0.0.1:8080").await?;
///     let app = Router::new().route("/", get(|| async { "hello" }));
///     let http = Http::new(app)
///         .head_timeout(Duration::from_secs(10))
///         .on_request(|request| println!("{} {}", request.method(), request.uri()))
///         .http1(|http1| _ = http1.max_headers(64))
///         .http2(|http2| _ = http2.max_concurrent_streams(100));
///     let serving = worker.serve_http(listener, http);
///     let stop = yield_().await;
///     serving.drain(&stop).await;
///     Ok(())
/// }
/// ```
///
/// It is cheap to clone if the service is. What has to be done before HTTP begins, TLS for example, is done in a handler of
/// [`Worker::serve`], with [`connection`](Http::connection).
#[must_use = "it does nothing until it is served"]
pub struct Http<S> {
    service: S,
    settings: Rc<Settings>,
    peer: Option<Peer>,
}

impl<S> Http<S> {
    /// Serves `service` with the settings that most servers want.
    pub fn new(service: S) -> Http<S> {
        Http {
            service,
            settings: Rc::default(),
            peer: None,
        }
    }

    /// For how long a connection that has sent nothing yet, or nothing since its last response, stays open from the worker's
    /// stop on: clients that use it within this time lose no request. By default all of the drain's time less a second when
    /// the server goes on with another worker, in a rolling restart for example, and 1 s when the server stops.
    ///
    /// It ends a second before the stop's [deadline](crate::Stop::deadline) at the latest, or when half of the time is left
    /// if that is less. Before the stop idle connections stay open for as long as the client wants.
    pub fn idle(mut self, idle: Duration) -> Http<S> {
        self.settings().limits.idle = Some(idle);
        self
    }

    /// By when a request's head must have arrived, from its first byte; 30 s by default. Later, the connection is closed. It
    /// concerns HTTP/1, and the first bytes of HTTP/2.
    pub fn head_timeout(mut self, timeout: Duration) -> Http<S> {
        self.settings().limits.head = timeout;
        self
    }

    /// Calls `function` with each request before the service is called: to count it, or to add to its
    /// [extensions](hyper::Request::extensions_mut), which hold the [`Peer`] and [`Stopping`] already.
    pub fn on_request(mut self, function: impl Fn(&mut Request<Incoming>) + 'static) -> Http<S> {
        self.settings().on_request = Some(Rc::new(function));
        self
    }

    /// Changes what hyper has to be told of HTTP/1. Its `header_read_timeout` is off, see
    /// [`head_timeout`](Http::head_timeout).
    pub fn http1(mut self, set_up: impl FnOnce(&mut http1::Builder)) -> Http<S> {
        set_up(&mut self.settings().http1);
        self
    }

    /// Changes what hyper has to be told of HTTP/2. Called for each connection.
    pub fn http2(mut self, set_up: impl Fn(&mut http2::Builder<Executor>) + 'static) -> Http<S> {
        self.settings().set_up_http2.push(Rc::new(set_up));
        self
    }

    /// The client of the [`connection`](Http::connection) to come, if that can't tell by itself: one of TLS for example. A
    /// `TcpStream` and a `UnixStream` can.
    pub fn peer(mut self, peer: impl Into<Peer>) -> Http<S> {
        self.peer = Some(peer.into());
        self
    }

    fn settings(&mut self) -> &mut Settings {
        Rc::make_mut(&mut self.settings)
    }
}

impl<S: HttpService> Http<S> {
    /// Serves one connection to its end, in a handler of [`Worker::serve`]. It drains as those of
    /// [`serve_http`](Worker::serve_http) do when `worker` is asked to stop, and counts in the handler's
    /// [`Serving`](crate::Serving) as they do, if it is called in the handler's own task.
    ///
    /// ```no_run
    /// use std::io;
    /// use aioxide::{Worker, http::{Http, HttpService}};
    /// use tokio::io::{AsyncRead, AsyncWrite};
    /// use tokio::net::TcpStream;
    /// # struct TlsAcceptor;
    /// # impl Clone for TlsAcceptor { fn clone(&self) -> Self { TlsAcceptor } }
    /// # impl TlsAcceptor { async fn accept(&self, stream: TcpStream) -> io::Result<TcpStream> { Ok(stream) } }
    ///
    /// async fn serve_https(worker: Worker, acceptor: TlsAcceptor, app: impl HttpService) -> io::Result<()> {
    ///     let listener = worker.listen("127.0.0.1:8443").await?;
    ///     let http = Http::new(app);
    ///     let serving = worker.serve(listener, {
    ///         let worker = worker.clone();
    ///         move |stream: TcpStream| {
    ///             let (worker, acceptor, http) = (worker.clone(), acceptor.clone(), http.clone());
    ///             async move {
    ///                 let http = http.peer(stream.peer_addr()?);
    ///                 let stream = acceptor.accept(stream).await?;
    ///                 http.connection(stream, &worker).await
    ///             }
    ///         }
    ///     });
    ///     let stop = worker.ready().await;
    ///     serving.drain(&stop).await;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the service and of its bodies. That a client goes away, or sends what isn't HTTP, is no error, and logged at
    /// DEBUG.
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes the connection and drops its requests. An upgraded connection fails for whoever has it.
    pub fn connection<I>(
        &self,
        io: I,
        worker: &Worker,
    ) -> impl Future<Output = io::Result<()>> + use<I, S>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = self.peer.clone().or_else(|| Peer::of_stream(&io));
        self.serve(io, worker, peer)
    }

    pub(super) fn serve<I>(
        &self,
        io: I,
        worker: &Worker,
        peer: Option<Peer>,
    ) -> impl Future<Output = io::Result<()>> + use<I, S>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stopping = Stopping::new(Arc::clone(&worker.shared), false);
        let exchange = Exchange {
            worker: worker.clone(),
            extensions: extensions(&stopping, peer.as_ref()),
            stopping,
            peer,
            on_request: self.settings.on_request.clone(),
            wire: Arc::new(Wire::default()),
            requests: Requests::current(),
            failure: Default::default(),
        };
        let settings = Rc::clone(&self.settings);
        connection::serve(io, self.service.clone(), settings, exchange)
    }
}

impl<S: Clone> Clone for Http<S> {
    fn clone(&self) -> Http<S> {
        Http {
            service: self.service.clone(),
            settings: Rc::clone(&self.settings),
            peer: self.peer.clone(),
        }
    }
}

impl<S> fmt::Debug for Http<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = &self.settings.limits;
        f.debug_struct("Http")
            .field("head_timeout", &limits.head)
            .field("idle", &limits.idle)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// What [`Worker::serve_http`] takes: a tower service, or an [`Http`] with settings.
///
/// `Kind` only tells them apart; it is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't serve HTTP",
    label = "neither a clonable tower service of HTTP requests nor an `Http`",
    note = "a service is `Clone + tower_service::Service<hyper::Request<hyper::body::Incoming>, Response = hyper::Response<B>>`, \
            `axum::Router` for example"
)]
pub trait IntoHttp<Kind> {
    #[doc(hidden)]
    type Service: HttpService;

    #[doc(hidden)]
    fn into_http(self) -> Http<Self::Service>;
}

#[doc(hidden)]
pub struct ServiceKind;
#[doc(hidden)]
pub struct HttpKind;

#[diagnostic::do_not_recommend]
impl<S: HttpService> IntoHttp<ServiceKind> for S {
    type Service = S;

    fn into_http(self) -> Http<S> {
        Http::new(self)
    }
}

#[diagnostic::do_not_recommend]
impl<S: HttpService> IntoHttp<HttpKind> for Http<S> {
    type Service = S;

    fn into_http(self) -> Http<S> {
        self
    }
}
