//! The thread on which clients are served, beside the server and out of its way.

use std::env;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::about::About;
use super::clients::Clients;
use super::desk::Desk;
use super::place::{Door, Open};
use super::{door, health};
use crate::server::report;
use crate::server::supervisor::{Entrance, Entrances, Gate, Last, Looks, Watcher};

/// The environment variable that says where health checks are answered, or by nothing that they aren't.
const HEALTH_VARIABLE: &str = "AIOXIDE_HEALTH";
/// How many clients the door lets in.
const CLIENTS: usize = 32;
/// How many clients may check the server's health.
const HEALTH_CLIENTS: usize = 64;
/// What the last replies get to be written, at the end of the server.
const LAST_REPLIES: Duration = Duration::from_millis(200);
/// How many turns of the event loop that takes at most.
const TURNS: usize = 64;
/// How often it is looked who is overdue.
const ROUND: Duration = Duration::from_secs(1);

/// Serves those who look into a server. Dropped, it closes the door.
pub(crate) struct Monitor {
    closing: CancellationToken,
    gate: Gate,
    /// Disconnected when nobody is served any more.
    served: Receiver<()>,
    door: Option<Open>,
}

/// What is opened for those who look into a server.
pub(crate) struct Opened {
    pub(crate) monitor: Option<Monitor>,
    pub(crate) looks: Looks,
    /// For a successor of the supervisor.
    #[cfg_attr(not(feature = "process"), expect(dead_code))]
    pub(crate) entrances: Entrances,
}

impl Monitor {
    /// What can't be opened is told, and the server runs without it. What a predecessor has handed over and is wanted here
    /// is taken; the rest is left in `handed`. Nobody is let in before the gate is open.
    pub(crate) fn open(
        mut about: About,
        door: &Door,
        handed: &mut Entrances,
        gate: &Gate,
    ) -> Opened {
        let none = || Opened {
            monitor: None,
            looks: Looks::default(),
            entrances: Entrances::default(),
        };
        let door = door.or_in_environment();
        let opened = match door.take(&mut handed.door) {
            Ok(None) => door.open(),
            taken => taken,
        };
        let door = opened.unwrap_or_else(|error| {
            report::log!(warn, %error, "monitor: the door can't be opened: {error}");
            None
        });
        let address = health_address(about.options.health.take());
        about.options.health.clone_from(&address);
        let health = address
            .as_deref()
            .and_then(|at| listen(at, &mut handed.health));
        if door.is_none() && health.is_none() {
            return none();
        }
        let entrances = entrances(door.as_ref(), address.as_deref().zip(health.as_ref()));
        let (watcher, lasts, looks) = Looks::new();
        let closing = CancellationToken::new();
        let served = serve(
            about,
            (watcher, lasts),
            (door.as_ref(), health),
            gate.clone(),
            closing.clone(),
        );
        let served = match served {
            Ok(served) => served,
            Err(error) => {
                report::log!(warn, %error, "monitor: nobody can be served: {error}");
                return none();
            }
        };
        if let Some(door) = &door {
            let path = door.path.display();
            report::log!(info, %path, "monitor: the door is {path}");
        }
        let monitor = Monitor {
            closing,
            gate: gate.clone(),
            served,
            door,
        };
        Opened {
            monitor: Some(monitor),
            looks,
            entrances,
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.closing.cancel();
        // Who has asked for the end is told that it comes, before it does.
        let _ = self.served.recv_timeout(LAST_REPLIES);
        if let Some(door) = &mut self.door {
            door.own = self.gate.is_open();
        }
    }
}

/// Of what can't be duplicated a successor has to do without.
fn entrances(door: Option<&Open>, health: Option<(&str, &TcpListener)>) -> Entrances {
    let health = health.map(|(at, listener)| {
        Ok(Entrance {
            socket: listener.try_clone()?.into(),
            at: at.into(),
            inode: None,
        })
    });
    let told = |entrance: io::Result<Entrance>| {
        entrance
            .inspect_err(|error| {
                report::log!(warn, %error, "monitor: a new supervisor won't be asked at the same place");
            })
            .ok()
    };
    Entrances {
        door: door.map(Open::entrance).and_then(told),
        health: health.and_then(told),
    }
}

fn health_address(given: Option<String>) -> Option<String> {
    match env::var(HEALTH_VARIABLE) {
        Ok(address) => (!address.is_empty()).then_some(address),
        Err(_) => given,
    }
}

fn listen(address: &str, handed: &mut Option<Entrance>) -> Option<TcpListener> {
    let handed = handed.take_if(|health| health.at == Path::new(address));
    let listener = match handed {
        Some(health) => Ok(TcpListener::from(health.socket)),
        None => TcpListener::bind(address),
    };
    let listener = listener.and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    });
    match listener {
        Ok((addr, listener)) => {
            report::log!(info, %addr, "health: answering on {addr}");
            Some(listener)
        }
        Err(error) => {
            report::log!(warn, %error, "health: can't listen on `{address}`: {error}");
            None
        }
    }
}

fn serve(
    about: About,
    (watcher, lasts): (Watcher, mpsc::UnboundedReceiver<Last>),
    (door, health): (Option<&Open>, Option<TcpListener>),
    gate: Gate,
    closing: CancellationToken,
) -> io::Result<Receiver<()>> {
    let (serving, served) = channel::<()>();
    let door = door.map(|door| door.listener.try_clone()).transpose()?;
    std::thread::Builder::new()
        .name("monitor".to_owned())
        .spawn(move || {
            let _serving = serving;
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    report::log!(warn, %error, "monitor: nobody can be served: {error}");
                    return;
                }
            };
            runtime.block_on(async {
                let desk = Desk::new(about, watcher);
                let told = Rc::clone(&desk);
                tokio::task::spawn_local(async move { told.told.listen(lasts).await });
                let [inside, outside] = [CLIENTS, HEALTH_CLIENTS].map(Clients::new);
                if let Some(listener) = door {
                    let (desk, clients) = (Rc::clone(&desk), Rc::clone(&inside));
                    tokio::task::spawn_local(door::serve(listener, gate.clone(), desk, clients));
                }
                if let Some(listener) = health {
                    let clients = Rc::clone(&outside);
                    tokio::task::spawn_local(health::serve(listener, gate, desk, clients));
                }
                let rounds = async {
                    loop {
                        tokio::time::sleep(ROUND).await;
                        inside.send_away_overdue();
                        outside.send_away_overdue();
                    }
                };
                tokio::select! {
                    () = closing.cancelled() => {}
                    () = rounds => {}
                }
                // Replies that are there already are still written.
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
            });
            runtime.shutdown_background();
        })?;
    Ok(served)
}
