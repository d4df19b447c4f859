//! Reloads under load by HTTP: rolling restarts of aioxide, and what others have in their place.

use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::plan::{Plan, in_turn};
use crate::kinds::{
    AXUM, AXUM_IN_AIOXIDE, GUNICORN, HTTP_PROCESSES, HTTP_THREADS, Kind, NGINX, PUMA, UVICORN,
};
use crate::load::{Load, Outcome, Protocol, http2};
use crate::running::Server;
use crate::serve::{READY, runtime};
use crate::stats::Spread;
use crate::table::{Column, Table, told};

const WORKERS: usize = 2;
/// In each round.
const RELOADS: u32 = 4;
/// Before and after each of them, as a part of the time of a round.
const REST: f64 = 0.6;
const PAUSES: Duration = Duration::from_millis(20);
const HTTP2_CONNECTIONS: usize = 16;

const COLUMNS: &[Column] = &[
    told("a reload, ms"),
    told("requests"),
    told("lost, persistent connections"),
    told("lost, fresh connections"),
    told("lost, HTTP/2"),
];

const LIMITS: &str = "
64 clients on connections that they keep, 64 with a connection for each request, and 16 of HTTP/2 where it is spoken (reqwest),
all with pauses of up to 20 ms, during 4 reloads in a round. A request is lost if it isn't answered with what it should be. As
HTTP's clients do, these look whether the server has closed a connection before they use it again; none asks again what
was lost, but for reqwest, where GOAWAY says that it may. aioxide is reloaded by SIGHUP, with `Worker::serve_http` and, to compare, with
`axum::serve` and its `with_graceful_shutdown` in the same workers; axum alone by a successor on the same port, followed by
SIGTERM. gunicorn, uvicorn and nginx reload by SIGHUP, puma by SIGUSR1 (a phased restart).";

/// How a server is reloaded.
#[derive(Clone, Copy)]
enum Way {
    /// By this signal; it tells this so often when it is done.
    Signal(Signal, &'static str, usize),
    /// By a successor beside it, on the same port.
    Successor,
}

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    let title = format!("Reloads under load by HTTP, {WORKERS} workers");
    let mut table = Table::new(title, HTTP_THREADS.name, COLUMNS, LIMITS);
    let rolled = Way::Signal(Signal::HUP, "rolling restart done", 1);
    let ways = [
        (HTTP_THREADS, rolled),
        (HTTP_PROCESSES, rolled),
        (AXUM_IN_AIOXIDE, rolled),
        (AXUM, Way::Successor),
        (GUNICORN, Way::Signal(Signal::HUP, READY, WORKERS)),
        (UVICORN, Way::Signal(Signal::HUP, READY, WORKERS)),
        (PUMA, Way::Signal(Signal::USR1, READY, WORKERS)),
        (
            NGINX,
            Way::Signal(Signal::HUP, "exited with code 0", WORKERS),
        ),
    ];
    let mut measured = Vec::new();
    for (kind, way) in ways {
        if kind.is_there(plan.python.as_ref()) {
            measured.push((kind, way, Outcome::none()?));
        }
    }
    for round in 0..plan.few_rounds() {
        for (kind, way, all) in in_turn(&mut measured, round) {
            let (each, outcomes) = reloaded(*kind, *way, plan).with_context(|| kind.name)?;
            let requests: u64 = outcomes.iter().map(|outcome| outcome.requests).sum();
            let [kept, fresh, http2] = outcomes.each_ref().map(|of| of.failures.sum() as f64);
            table.add(kind.name, [each, requests as f64, kept, fresh, http2]);
            for outcome in &outcomes {
                all.add(outcome)?;
            }
        }
    }
    for (kind, _, all) in &measured {
        table.remark("lost in all rounds", kind.name, all.lost());
        if [HTTP_THREADS, HTTP_PROCESSES].contains(kind) {
            let claim = format!("{}, lost requests", kind.name);
            table.bound(claim, Spread::of(&[all.failures.sum() as f64]), 0.0);
        }
    }
    Ok(vec![table])
}

/// How long a reload took, in ms, and what became of the requests of each kind of client.
fn reloaded(kind: Kind, way: Way, plan: &Plan) -> Result<(f64, [Outcome; 3])> {
    let python = plan.python.as_ref();
    let mut server = Server::start(kind, WORKERS, python)?;
    let address = server.address;
    let speaks_http2 = [HTTP_THREADS, HTTP_PROCESSES, AXUM_IN_AIOXIDE, AXUM].contains(&kind);
    let rest = plan.time.mul_f64(REST);
    let over = AtomicBool::new(false);
    let (took, outcomes) = thread::scope(|scope| {
        let loading = scope.spawn(|| under_load(address, speaks_http2, &over));
        let reloading = (0..RELOADS).map(|_| {
            thread::sleep(rest);
            let asked = Instant::now();
            match way {
                Way::Signal(signal, done, times) => {
                    server.program.signal(signal)?;
                    for _ in 0..times {
                        server.program.line_with(done)?;
                    }
                }
                Way::Successor => {
                    let successor = Server::start_at(address, kind, WORKERS, python, &[])?;
                    mem::replace(&mut server, successor).program.stop()?;
                }
            }
            Ok(asked.elapsed().as_secs_f64() * 1e3)
        });
        let took: Result<Vec<f64>> = reloading.collect();
        thread::sleep(rest);
        over.store(true, Relaxed);
        let outcomes = loading.join().ok().context("the load generator panicked")?;
        anyhow::Ok((took?, outcomes?))
    })?;
    server.program.stop()?;
    Ok((Spread::of(&took).median, outcomes))
}

fn under_load(address: SocketAddr, speaks_http2: bool, over: &AtomicBool) -> Result<[Outcome; 3]> {
    let load = Load {
        pauses: PAUSES,
        ..Load::new(address, Protocol::Http)
    };
    let goes_on = || !over.load(Relaxed);
    let mut kept = load.clients();
    let mut fresh = Load {
        fresh: true,
        ..load
    }
    .clients();
    let of_http2 = Load {
        connections: if speaks_http2 { HTTP2_CONNECTIONS } else { 0 },
        ..load
    };
    runtime()?.block_on(async {
        let (kept, fresh, http2) = tokio::try_join!(
            kept.run_while(goes_on),
            fresh.run_while(goes_on),
            http2::run_while(of_http2, goes_on),
        )?;
        Ok([kept, fresh, http2])
    })
}
