//! HTTP without a lost request: HTTP/1.1 and HTTP/2 on [hyper], for any tower service.
//!
//! ```no_run
//! use std::io;
//! use aioxide::{Worker, server};
//! use axum::{Router, routing::get};
//!
//! #[server(workers = 4)]
//! async fn main(worker: Worker) -> io::Result<()> {
//!     let app = Router::new().route("/", get(|| async { "hello" }));
//!     let listener = worker.listen("127.0.0.1:8080").await?;
//!     let serving = worker.serve_http(listener, app);
//!     let stop = yield_().await;
//!     serving.drain(&stop).await;
//!     Ok(())
//! }
//! ```
//!
//! # Requests
//!
//! Their extensions hold the [`Peer`], and [`Stopping`] for those that last: an upgraded connection, a stream of events. With
//! the feature `axum` there is axum's `ConnectInfo<SocketAddr>` too, for connections by TCP.
//!
//! # Draining
//!
//! From the worker's stop on, while [`Serving::drain`] waits:
//!
//! - What is being read, handled or written is finished. Each HTTP/1 response says `connection: close`, except one that
//!   upgrades, already while the server waits for its [`drain_delay`](crate::Server::drain_delay); HTTP/2 sends GOAWAY, finishes the streams that the client had begun by then, and closes.
//! - A connection that has sent nothing yet, or is idle, stays open: until its next request, which is answered with
//!   `connection: close`, or until [`Http::idle`] has passed.
//! - An upgraded connection is open until its IO is dropped.
//! - At the stop's [deadline](crate::Stop::deadline) what is left is cut, counted, and logged with the number of requests that were
//!   in flight.
//!
//! So in a rolling restart no request is lost on a fresh connection, on one that is used at least once within `idle`, and on
//! HTTP/2 by clients that retry what GOAWAY has refused, as reqwest does. A connection that is closed later may be closed at
//! the instant at which its client uses it, as [RFC 9112 9.3](https://www.rfc-editor.org/rfc/rfc9112#section-9.3) allows, and for
//! which clients have to be prepared.
//!
//! # What clients do wrong
//!
//! A malformed request is answered by hyper, with 400 or 431 for example. A head that takes too long is closed. Both are counted
//! in [`Serving::failed`] and logged at DEBUG. A body that never comes is waited for until its handler gives up.
//!
//! # Compared with `axum::serve`
//!
//! `axum::serve(..).with_graceful_shutdown(..)` closes connections that are idle, or have not sent their first byte, at the
//! instant of the stop. Some of their clients are about to send a request then, which is lost.

mod builder;
mod connection;
mod draining;
mod peer;
mod service;
mod settings;
mod streams;
mod wire;

use tokio_util::net::Listener;

pub use builder::{Http, IntoHttp};
pub use peer::Peer;
pub use service::HttpService;

pub use streams::Executor;

pub use super::worker::Stopping;
use super::{Serving, Worker};

impl Worker {
    /// Serves HTTP/1.1 and HTTP/2 on the connections of `listener`, in the background: as [`serve`](Worker::serve) does, and
    /// without a lost request when the worker is replaced. See [`http`](crate::http).
    ///
    /// `service` is any tower service of requests that can be cloned, `axum::Router` or tonic's `Routes` for example, or an
    /// [`Http`] with settings. Neither it nor its futures need be `Send`; a connection's requests are handled on this worker's
    /// event loop.
    ///
    /// The listener is a [`TcpListener`](tokio::net::TcpListener), a [`UnixListener`](tokio::net::UnixListener), or whatever else is a
    /// [`tokio_util::net::Listener`].
    ///
    /// # Panics
    ///
    /// Outside a worker's own code, where there is no event loop to spawn on.
    pub fn serve_http<L, H, Kind>(&self, listener: L, service: H) -> Serving
    where
        L: Listener + 'static,
        L::Io: Unpin + Send + 'static,
        L::Addr: 'static,
        H: IntoHttp<Kind>,
    {
        let http = service.into_http();
        let worker = self.clone();
        let handler = move |io, address| {
            let peer = Peer::of_address(&address);
            http.serve(io, &worker, peer)
        };
        self.serve_each(listener, handler)
    }
}
