//! The servers that are compared, and how each is started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::python::{Python, peers};
use crate::serve::READY;

#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    how: How,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    /// By this program.
    Serve(&'static [&'static str]),
    /// By aiotools, on this loop.
    Aiotools(&'static str),
    Gunicorn,
    Uvicorn,
    Puma,
    Nginx,
}

const fn kind(name: &'static str, how: How) -> Kind {
    Kind { name, how }
}

const fn serve(name: &'static str, args: &'static [&'static str]) -> Kind {
    kind(name, How::Serve(args))
}

// They echo bytes.
pub(crate) const BARE_THREADS: Kind = serve("bare threads", &["bare-threads"]);
pub(crate) const BARE_PROCESSES: Kind = serve("bare processes", &["bare-processes"]);
pub(crate) const THREADS: Kind = serve("aioxide threads", &["aioxide-threads"]);
pub(crate) const PROCESSES: Kind = serve("aioxide processes", &["aioxide-processes"]);
pub(crate) const BALANCED: Kind = serve(
    "aioxide threads, `balance`",
    &["aioxide-threads", "--balance"],
);
pub(crate) const ACTIX: Kind = serve("actix-server", &["actix"]);
const AIOTOOLS: [Kind; 2] = [
    kind("aiotools, asyncio", How::Aiotools("asyncio")),
    kind("aiotools, uvloop", How::Aiotools("uvloop")),
];

// They speak HTTP.
pub(crate) const HYPER: Kind = serve("hyper on bare threads", &["hyper-threads"]);
pub(crate) const HTTP_THREADS: Kind = serve("aioxide threads", &["http-threads"]);
pub(crate) const HTTP_PROCESSES: Kind = serve("aioxide processes", &["http-processes"]);
pub(crate) const AXUM: Kind = serve("axum, multi-thread runtime", &["axum"]);
pub(crate) const AXUM_IN_AIOXIDE: Kind =
    serve("axum::serve in aioxide's threads", &["http-axum-threads"]);
pub(crate) const ACTIX_WEB: Kind = serve("actix-web", &["actix-web"]);
pub(crate) const GUNICORN: Kind = kind("gunicorn, uvicorn's workers", How::Gunicorn);
pub(crate) const UVICORN: Kind = kind("uvicorn", How::Uvicorn);
pub(crate) const PUMA: Kind = kind("puma", How::Puma);
pub(crate) const NGINX: Kind = kind("nginx", How::Nginx);

/// All that echo bytes, or all but aiotools.
pub(crate) fn echoing(python: Option<&Python>) -> Vec<Kind> {
    let mut kinds = vec![BARE_THREADS, THREADS, ACTIX, BARE_PROCESSES, PROCESSES];
    kinds.extend(python.into_iter().flat_map(|_| AIOTOOLS));
    kinds
}

/// How it is started.
pub(crate) struct Launch {
    pub(crate) command: Command,
    /// What it tells on stdout once it can be reached, and how often: some tell it for each worker.
    pub(crate) ready: (&'static str, usize),
    /// Is removed with this.
    pub(crate) folder: Option<TempDir>,
}

impl Kind {
    /// Of those that have to be installed, whether it is.
    pub(crate) fn is_there(self, python: Option<&Python>) -> bool {
        match self.how {
            How::Serve(_) => true,
            How::Aiotools(_) | How::Gunicorn | How::Uvicorn => python.is_some(),
            How::Puma => installed("puma").is_some(),
            How::Nginx => installed("nginx").is_some(),
        }
    }

    /// What it tells of its version.
    pub(crate) fn version(self) -> Option<String> {
        let (program, option) = match self.how {
            How::Puma => (installed("puma")?, "--version"),
            How::Nginx => (installed("nginx")?, "-v"),
            _ => return None,
        };
        let told = Command::new(program).arg(option).output().ok()?;
        let told = [told.stdout, told.stderr].concat();
        let digits = |part: &&str| part.starts_with(|first: char| first.is_ascii_digit());
        let told = String::from_utf8_lossy(&told).replace('/', " ");
        let version = told.split_whitespace().find(digits)?;
        Some(format!("{} {version}", self.name))
    }

    pub(crate) fn launch(
        self,
        address: SocketAddr,
        workers: usize,
        python: Option<&Python>,
    ) -> Result<Launch> {
        let (port, count) = (address.port().to_string(), workers.to_string());
        let python = || python.with_context(|| format!("{} needs Python", self.name));
        let mut ready = (READY, workers);
        let mut folder = None;
        let command = match self.how {
            How::Serve(args) => {
                ready.1 = 1;
                let mut command = this_program()?;
                command.arg("serve").args(args).args([port, count]);
                command
            }
            How::Aiotools(event_loop) => {
                let mut command = python()?.program("server.py");
                command.args([event_loop.to_owned(), port, count]);
                command
            }
            How::Gunicorn => {
                let mut command = python()?.module("gunicorn");
                command
                    .args(["--log-level", "error", "--bind", &address.to_string()])
                    .args(["--workers", &count, "-k", "uvicorn_worker.UvicornWorker"])
                    .arg("--chdir")
                    .arg(peers())
                    .arg("web:app");
                command
            }
            How::Uvicorn => {
                let mut command = python()?.module("uvicorn");
                command
                    .args(["--log-level", "error", "--no-access-log"])
                    .args(["--port", &port, "--workers", &count, "--app-dir"])
                    .arg(peers())
                    .arg("web:app");
                command
            }
            How::Puma => {
                let mut command = Command::new(installed("puma").context("puma isn't installed")?);
                command.arg("--config").arg(peers().join("puma.rb"));
                command.env("PORT", port).env("WORKERS", count);
                command
            }
            How::Nginx => {
                ready.0 = "start worker process ";
                let program = installed("nginx").context("nginx isn't installed")?;
                let own = tempfile::tempdir()?;
                let text = fs::read_to_string(peers().join("nginx.conf"))?;
                let text = text.replace("PORT", &port).replace("WORKERS", &count);
                fs::write(own.path().join("nginx.conf"), text)?;
                let mut command = Command::new(program);
                command.arg("-p").arg(own.path()).args(["-c", "nginx.conf"]);
                folder = Some(own);
                command
            }
        };
        Ok(Launch {
            command,
            ready,
            folder,
        })
    }
}

pub(crate) fn this_program() -> Result<Command> {
    Ok(Command::new(env::current_exe()?))
}

/// Where it is; Debian has servers where only root looks for programs.
fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
