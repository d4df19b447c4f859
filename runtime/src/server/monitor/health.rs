//! Health checks over TCP, for whoever can reach the address: nothing else is told there, and nothing is done.

use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::ALLOW;
use hyper::{Method, Request, Response, StatusCode};

use super::clients::{Client, Clients};
use super::desk::{Desk, ready};
use super::http::{self, Content, METRICS, TEXT, response};
use crate::server::report;
use crate::server::supervisor::{Gate, View};

/// What follows when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// While the gate is open.
pub(super) async fn serve(listener: TcpListener, gate: Gate, desk: Rc<Desk>, clients: Rc<Clients>) {
    gate.opened().await;
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            report::log!(warn, %error, "health: nobody can be served: {error}");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = gate.left() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // All are busy; each of them is for 10 s at most.
                let Some(client) = clients.admit() else {
                    continue;
                };
                let desk = Rc::clone(&desk);
                tokio::task::spawn_local(async move {
                    let served = http::serve(stream, |request| answer(request, &desk, &client));
                    tokio::select! {
                        biased;
                        () = client.sent_away() => {}
                        ended = served => if let Err(error) = ended {
                            report::log!(debug, %error, "health: a client is gone");
                        }
                    }
                });
            }
            Err(error) => {
                report::log!(debug, %error, "health: a client can't be let in");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(request: Request<Incoming>, desk: &Rc<Desk>, client: &Client) -> Response<Content> {
    client.served();
    let response = respond(request, desk).await;
    client.waited_for();
    response
}

async fn respond(request: Request<Incoming>, desk: &Rc<Desk>) -> Response<Content> {
    let path = request.uri().path();
    if !matches!(path, "/livez" | "/readyz" | "/metrics") {
        return response(StatusCode::NOT_FOUND, TEXT, "not found\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = response(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "only GET is allowed\n",
        );
        let allow = "GET, HEAD".parse().expect("a static header");
        refused.headers_mut().insert(ALLOW, allow);
        return refused;
    }
    let view = match desk.view().await {
        Ok(view) => view,
        Err(refused) => {
            return response(StatusCode::SERVICE_UNAVAILABLE, TEXT, refused.error + "\n");
        }
    };
    let healthy = match path {
        "/livez" => is_live(&view),
        "/readyz" => is_ready(view.replaced, view.was_ready, ready(&view), view.going),
        _ => return response(StatusCode::OK, METRICS, desk.metrics(&view).await),
    };
    match healthy {
        Ok(()) => response(StatusCode::OK, TEXT, "ok\n"),
        Err(why) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
    }
}

/// Whether clients are to be sent here, or why not.
fn is_ready(
    replaced: bool,
    was_ready: bool,
    ready: usize,
    going: bool,
) -> Result<(), &'static str> {
    match (replaced, going, was_ready, ready) {
        // This supervisor is on its way out; clients are served by its successor.
        (true, ..) => Ok(()),
        (_, true, ..) => Err("the server is stopping"),
        (_, _, false, _) => Err("the server is starting"),
        (.., 0) => Err("no worker is ready"),
        _ => Ok(()),
    }
}

/// The supervisor has answered; some worker's event loop must turn, if there are any.
fn is_live(view: &View) -> Result<(), &'static str> {
    let mut workers = view
        .workers
        .iter()
        .filter(|worker| worker.role.index().is_some());
    let none = workers.clone().next().is_none();
    match none || workers.any(|worker| !worker.blocked) {
        true => Ok(()),
        false => Err("the event loops of all workers are blocked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_a_start_a_worker_and_no_stop() {
        let is_ready = |was_ready, ready, going| is_ready(false, was_ready, ready, going);
        assert_eq!(is_ready(true, 1, false), Ok(()));
        assert_eq!(is_ready(false, 1, false), Err("the server is starting"));
        assert_eq!(is_ready(true, 0, false), Err("no worker is ready"));
        assert_eq!(is_ready(true, 2, true), Err("the server is stopping"));
    }

    #[test]
    fn a_replaced_supervisor_speaks_for_its_successor() {
        assert_eq!(is_ready(true, true, 2, true), Ok(()));
        assert_eq!(is_ready(true, true, 0, true), Ok(()));
    }
}
