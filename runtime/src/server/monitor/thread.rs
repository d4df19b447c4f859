//! The thread on which clients are served, beside the server and out of its way.

use std::env;
use std::io;
use std::net::TcpListener;
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
use crate::server::supervisor::{Last, Looks, Watcher};

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
    /// Disconnected when nobody is served any more.
    served: Receiver<()>,
    _door: Option<Open>,
}

impl Monitor {
    /// What can't be opened is told, and the server runs without it.
    pub(crate) fn open(
        about: About,
        door: &Door,
        health: Option<&str>,
    ) -> (Option<Monitor>, Looks) {
        let door = match door.or_in_environment().open() {
            Ok(door) => door,
            Err(error) => {
                report::log!(warn, %error, "monitor: the door can't be opened: {error}");
                None
            }
        };
        let health = health_address(health).and_then(|address| listen(&address));
        if door.is_none() && health.is_none() {
            return (None, Looks::default());
        }
        let (watcher, lasts, looks) = Looks::new();
        let closing = CancellationToken::new();
        let served = serve(
            about,
            (watcher, lasts),
            door.as_ref(),
            health,
            closing.clone(),
        );
        let served = match served {
            Ok(served) => served,
            Err(error) => {
                report::log!(warn, %error, "monitor: nobody can be served: {error}");
                return (None, Looks::default());
            }
        };
        if let Some(door) = &door {
            let path = door.path.display();
            report::log!(info, %path, "monitor: the door is {path}");
        }
        let monitor = Monitor {
            closing,
            served,
            _door: door,
        };
        (Some(monitor), looks)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.closing.cancel();
        // Who has asked for the end is told that it comes, before it does.
        let _ = self.served.recv_timeout(LAST_REPLIES);
    }
}

fn health_address(given: Option<&str>) -> Option<String> {
    match env::var(HEALTH_VARIABLE) {
        Ok(address) => (!address.is_empty()).then_some(address),
        Err(_) => given.map(str::to_owned),
    }
}

fn listen(address: &str) -> Option<TcpListener> {
    let listener = TcpListener::bind(address).and_then(|listener| {
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
    door: Option<&Open>,
    health: Option<TcpListener>,
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
                    tokio::task::spawn_local(door::serve(listener, desk, clients));
                }
                if let Some(listener) = health {
                    let clients = Rc::clone(&outside);
                    tokio::task::spawn_local(health::serve(listener, desk, clients));
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
