//! `aioxide open`: a page in the browser that shows a server, for as long as this runs.

mod gate;
mod serving;

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, thread};

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::door::{Failed, Meant};
use gate::{Gate, Secret};
use serving::Served;

/// How the page is opened.
#[derive(Args, Debug)]
pub(crate) struct Open {
    /// Start no browser, and print where the page is: for a browser that is started by hand, or one at the other end of
    /// `ssh -L`.
    #[arg(long)]
    no_browser: bool,
    /// The port of 127.0.0.1 to serve the page on; without it, one that is free.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
}

impl Open {
    /// Serves the page until SIGINT, SIGTERM or SIGHUP.
    pub(crate) fn run(self, meant: Meant) -> Result<(), Failed> {
        let (door, name) = meant.meet()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(refused)?;
        let served = runtime.block_on(self.serve(meant, door, name));
        // A look for doors may be under way.
        runtime.shutdown_background();
        served.map_err(refused)
    }

    async fn serve(self, meant: Meant, door: PathBuf, name: String) -> io::Result<()> {
        let mut ends = Vec::new();
        for kind in [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ] {
            ends.push(signal(kind)?);
        }
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let listener = TcpListener::bind(at)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("{at}: {error}")))?;
        let token = Secret::random()?;
        let gate = Gate::new(listener.local_addr()?, token.clone(), Secret::random()?);
        let origin = gate.origin();
        let url = format!("{origin}/?token={}", token.as_str());
        let ticket = Arc::new(Ticket::write(&url)?);
        let file = ticket.0.clone();
        let mut told = format!("{name} is shown at {origin}/ until Ctrl-C\n");
        match self.no_browser {
            true => told += &format!("open {}, or {url}, which works once\n", file.display()),
            false => start_browser(&file),
        }
        // Whoever has closed stdout need not know.
        let _ = io::stdout().lock().write_all(told.as_bytes());
        let served = Served::new(gate, meant, name, door, {
            let ticket = Arc::clone(&ticket);
            move || ticket.remove()
        });
        let ended = ends.iter_mut().map(|end| Box::pin(end.recv()));
        tokio::select! {
            () = served.serve(listener) => {}
            _ = futures_util::future::select_all(ended) => {}
        }
        ticket.remove();
        Ok(())
    }
}

fn refused(error: io::Error) -> Failed {
    Failed::Refused(format!("error: {error}\n"))
}

/// Without waiting for it: the browser may itself be what is started.
fn start_browser(file: &Path) {
    let file = file.to_owned();
    thread::spawn(move || {
        if let Err(error) = open::that(&file) {
            let file = file.display();
            let _ = writeln!(
                io::stderr(),
                "no browser can be started ({error}): open {file} in one"
            );
        }
    });
}

/// The file that leads a browser to the page. It carries the token: what a program is started with, everybody on this host can
/// read.
struct Ticket(PathBuf);

impl Ticket {
    fn write(url: &str) -> io::Result<Ticket> {
        let folder = env::var_os("XDG_RUNTIME_DIR")
            .filter(|folder| !folder.is_empty())
            .map_or_else(env::temp_dir, PathBuf::from);
        let name = &Secret::random()?;
        let path = folder.join(format!("aioxide-{}.html", &name.as_str()[..16]));
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
        let ticket = Ticket(path);
        write!(
            file,
            "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
             <meta http-equiv=\"refresh\" content=\"0; url={url}\">\n<title>aioxide</title>\n<p><a href=\"{url}\">aioxide</a>\n"
        )?;
        Ok(ticket)
    }

    /// It is of use once.
    fn remove(&self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.remove();
    }
}
