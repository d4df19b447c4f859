//! The handle that a worker's code gets.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, ToSocketAddrs, UdpSocket, UnixListener};

use super::going::Going;
use super::reloads::Reloads;
use super::shared::Shared;
use super::stopping::Stopping;
use super::tasks::Tasks;
use crate::server::line::{Passed, Request};
use crate::server::{Isolation, Stop};

/// A worker's own handle: who it is, its listening sockets, and how it learns that it is to stop.
///
/// A `#[server]` function gets it as its first argument. It is cheap to clone and may be sent to other
/// threads; sockets and tasks belong to the worker's event loop.
#[derive(Clone)]
pub struct Worker {
    pub(crate) shared: Arc<Shared>,
}

impl Worker {
    /// The worker's index, from 0 up to but not including [`count`](Worker::count). A worker that is
    /// started again keeps its predecessor's.
    ///
    /// # Panics
    ///
    /// In an extra, which has none.
    pub fn index(&self) -> usize {
        match self.shared.identity.index {
            Some(index) => index,
            None => panic!(
                "`{}` is an extra of the server and has no worker index",
                self.shared.name()
            ),
        }
    }

    /// How many workers the server had when this one was started.
    pub fn count(&self) -> usize {
        self.shared.identity.count
    }

    /// How many times this worker's slot has been started before: 0 at first.
    pub fn generation(&self) -> u64 {
        self.shared.identity.generation
    }

    /// Whether this worker is a thread or a process.
    pub fn isolation(&self) -> Isolation {
        self.shared.identity.isolation
    }

    /// Makes the worker ready, once polled, and waits for its stop: what `yield_()` is in a
    /// `#[server]` function, for a [`Server`](crate::server::Server) built without the attribute.
    ///
    /// The future is cancel-safe; a worker once ready stays ready.
    pub fn ready(&self) -> Stopping {
        Stopping::ready(Arc::clone(&self.shared))
    }

    /// Waits for the worker's stop without making the worker ready. For parts of a worker that end on
    /// their own. In an extra it makes the extra ready, as [`ready`](Worker::ready) does.
    pub fn stopping(&self) -> Stopping {
        Stopping::new(
            Arc::clone(&self.shared),
            self.shared.identity.index.is_none(),
        )
    }

    /// Whether the worker has been asked to stop. For code that can't await, in a loop of `spawn_blocking`.
    pub fn is_stopping(&self) -> bool {
        self.shared.told.stop.get().is_some()
    }

    /// Whether the server is about to stop, or this worker has been asked to: what is answered now had better say that the
    /// client is to go elsewhere, as HTTP does with `connection: close`. With a
    /// [`drain_delay`](crate::server::Server::drain_delay) that is so from the first stop signal on, while the worker
    /// serves on; without one from the moment at which [`is_stopping`](Worker::is_stopping) is.
    pub fn is_going(&self) -> bool {
        self.shared.told.stop.is_going()
    }

    /// Waits until [`is_going`](Worker::is_going).
    ///
    /// The future is cancel-safe, and may be cloned and polled again.
    ///
    /// ```no_run
    /// # async fn _f(worker: aioxide::Worker) {
    /// let going = worker.going();
    /// tokio::task::spawn_local(async move {
    ///     going.await;
    ///     println!("telling the others that this server goes");
    /// });
    /// # }
    /// ```
    pub fn going(&self) -> Going {
        Going::new(Arc::clone(&self.shared.told))
    }

    /// Blocks the thread until the worker is asked to stop: for synchronous extras.
    ///
    /// On an event loop it would block that for good; use [`stopping`](Worker::stopping) there.
    pub fn stopped_blocking(&self) -> Stop {
        if self.shared.identity.index.is_none() {
            self.shared.announce_ready();
        }
        self.shared.told.stop.wait_blocking()
    }

    /// A stream with an item for each SIGUSR1 that the server gets from now on, until the worker is asked to stop:
    /// then it ends. Several in quick succession may become one, as signals do.
    ///
    /// ```no_run
    /// # async fn _f(worker: aioxide::Worker) {
    /// let mut reloads = worker.reloads();
    /// tokio::task::spawn_local(async move {
    ///     while let Some(()) = reloads.recv().await {
    ///         println!("reading the settings anew");
    ///     }
    /// });
    /// # }
    /// ```
    pub fn reloads(&self) -> Reloads {
        Reloads::new(&self.shared.told)
    }

    /// Tasks to be waited for before the worker ends, until its deadline at the longest.
    ///
    /// Spawn on it what must not be cut off when the worker's function returns:
    /// `worker.tasks().spawn(job)`, or `spawn_local` what isn't `Send`. What is cut at the deadline is logged at WARN
    /// with the places where it was spawned. The connections of [`serve`](Worker::serve) aren't among them:
    /// [`Serving::drain`](crate::server::Serving::drain) waits for those.
    pub fn tasks(&self) -> &Tasks {
        &self.shared.tasks
    }

    /// The worker's own scope: tasks that don't outlive the worker.
    ///
    /// The first of its tasks that fails or panics ends the worker with that failure: the worker's function is dropped
    /// at the `.await` where it stands, the other tasks are aborted, and
    /// [`on_failure`](crate::server::Server::on_failure) decides. When the function has returned, tasks that
    /// were spawned are waited for until the worker's deadline, and then [supervised](crate::Scope::supervise)
    /// ones are cancelled; those cut at the deadline are named in the log. All of them, and the contexts that
    /// they had entered, have ended before the worker has.
    ///
    /// Nothing tells the tasks of the worker's stop but what the function tells them, or
    /// [`stopping`](Worker::stopping). What they use must not be a context of the function, which is left before they
    /// end: enter a [`scope`](crate::scope()) inside that context for them.
    ///
    /// A task returns `()` or `Result<T, Box<dyn Error + Send + Sync>>`. Where only waiting is needed,
    /// [`tasks`](Worker::tasks) does.
    ///
    /// # Panics
    ///
    /// In a synchronous extra, which has no event loop for tasks.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use aioxide::{Restart, Worker, server};
    /// # async fn feed() -> Result<(), Box<dyn std::error::Error + Send + Sync>> { Ok(()) }
    /// #[server(workers = 2)]
    /// async fn main(worker: Worker) {
    ///     worker.scope().supervise("feed", Restart::default(), feed);
    ///     yield_().await;
    /// }
    /// ```
    #[cfg(feature = "scope")]
    pub fn scope(&self) -> &crate::Scope<Box<dyn std::error::Error + Send + Sync>> {
        match self.shared.scope.get() {
            Some(scope) => scope,
            None => panic!(
                "`{}` is a synchronous extra, which has no event loop for the tasks of a scope",
                self.shared.name()
            ),
        }
    }

    /// A listener on `addr`, shared with the other workers: the kernel spreads connections over them.
    ///
    /// The socket belongs to the supervisor, one for each worker and address, and outlives this worker:
    /// its successor, after a failure or in a rolling restart, gets the same one, so that no connection is
    /// lost, not even one still in the backlog. While there is no successor yet, another worker accepts from the
    /// socket, if it accepts by [`serve`](Worker::serve) from a tokio listener. With an accept loop of your own nobody
    /// can: after a second the socket stops listening, which resets what waits in its backlog, so that new connections
    /// go to the other workers.
    ///
    /// Asked for again, the same address gives the same socket. Port 0 picks a free port, the same for all workers.
    ///
    /// A name may stand for several addresses, as `localhost` does for `127.0.0.1` and `[::1]`. All of them are bound,
    /// but those that this machine doesn't have. The listener is that of the first;
    /// [`serve`](Worker::serve) accepts from the further ones too. An accept loop of your own, `axum::serve` among
    /// them, has the first only: nothing listens on the others, and a warning says so. Call
    /// [`listen_first`](Worker::listen_first) for each address there, or for just one.
    ///
    /// An IPv6 socket takes IPv4 connections as well if the system has it so, but leaves them to the socket that has
    /// the same port on IPv4: `[::]:80` and `0.0.0.0:80` stand side by side.
    ///
    /// Dropping the listener doesn't close the port while the worker lives; [`unlisten`](Worker::unlisten)
    /// does. When the whole server stops, or scales down, connections that are in the backlog at that
    /// instant are reset (unless the system sets `net.ipv4.tcp_migrate_req`): only restarts are free of loss.
    ///
    /// # Errors
    ///
    /// When `addr` doesn't resolve or one of its addresses can't be bound; the error names it. An address on which
    /// another server listens is refused, also if that one allows sharing, unless this server is built with
    /// [`share_port`](crate::server::Server::share_port). The other way round, a program of the same user that sets
    /// `SO_REUSEPORT` is refused while a single worker has the address. As soon as a second one asks for it, Linux lets
    /// such a program in, and gives it a share of the connections.
    ///
    /// # Cancellation
    ///
    /// Dropping the future is safe; the socket, if it was opened, waits for the next call.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use aioxide::{Worker, server};
    /// #[server(workers = 4)]
    /// async fn main(worker: Worker) -> std::io::Result<()> {
    ///     let listener = worker.listen("localhost:8888").await?; // 127.0.0.1 and ::1
    ///     let serving = worker.serve(listener, async |mut stream| {
    ///         tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello\n").await
    ///     });
    ///     let stop = yield_().await;
    ///     serving.drain(&stop).await;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as of a synchronous extra. So do the other methods that give a socket.
    pub async fn listen(&self, addr: impl ToSocketAddrs + fmt::Debug) -> io::Result<TcpListener> {
        let all = true;
        let fd = self
            .inet_socket(addr, |asked, addrs| Request::Listen { asked, addrs, all })
            .await?;
        TcpListener::from_std(fd.into())
    }

    /// As [`listen`](Worker::listen), on the first address of `addr` that can be bound, as
    /// [`TcpListener::bind`] does.
    ///
    /// # Errors
    ///
    /// As for [`listen`](Worker::listen), when none can be bound.
    ///
    /// # Cancellation
    ///
    /// As for [`listen`](Worker::listen).
    pub async fn listen_first(
        &self,
        addr: impl ToSocketAddrs + fmt::Debug,
    ) -> io::Result<TcpListener> {
        let all = false;
        let fd = self
            .inet_socket(addr, |asked, addrs| Request::Listen { asked, addrs, all })
            .await?;
        TcpListener::from_std(fd.into())
    }

    /// A TCP listener that systemd has passed under this name: that of the socket unit (`http.socket`), or its
    /// `FileDescriptorName=`. For others there are [`listen_unix_named`](Worker::listen_unix_named) and
    /// [`bind_udp_named`](Worker::bind_udp_named).
    ///
    /// The workers share one socket. Where several units with `ReusePort=yes` have one address and one name, each worker
    /// has its own. Sockets of several addresses under one name are as those of [`listen`](Worker::listen) for a name
    /// with several addresses. [`unlisten`](Worker::unlisten) takes the name.
    ///
    /// Without a name, [`listen`](Worker::listen), [`listen_unix`](Worker::listen_unix) and
    /// [`bind_udp`](Worker::bind_udp) take what systemd has bound to the address that they are asked for, before they open
    /// a socket.
    ///
    /// ```no_run
    /// # async fn _f(worker: aioxide::Worker) -> std::io::Result<()> {
    /// let listener = worker.listen_named("http").await?;
    /// # drop(listener); Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When no TCP socket was passed under this name; the error lists the names that there are. Sockets are passed to
    /// the first server that the program [runs](crate::server::Server::run), and to none that is
    /// [started](crate::server::Server::start). What no worker has asked for by the time at which all are ready is closed.
    ///
    /// # Cancellation
    ///
    /// As for [`listen`](Worker::listen).
    pub async fn listen_named(&self, name: impl Into<String>) -> io::Result<TcpListener> {
        let name = name.into();
        let kind = Passed::Tcp;
        let fd = self.socket(Request::Named { kind, name }).await?;
        TcpListener::from_std(fd.into())
    }

    /// As [`listen_named`](Worker::listen_named), for a Unix stream socket. Its file is systemd's: its permissions are those
    /// of the socket unit, and it is left alone.
    ///
    /// # Errors
    ///
    /// When no Unix stream socket was passed under this name, or several of different paths were: ask for each by its path
    /// then, by [`listen_unix`](Worker::listen_unix). The error lists the names, or the paths.
    ///
    /// # Cancellation
    ///
    /// As for [`listen`](Worker::listen).
    pub async fn listen_unix_named(&self, name: impl Into<String>) -> io::Result<UnixListener> {
        let (kind, name) = (Passed::Unix, name.into());
        let fd = self.socket(Request::Named { kind, name }).await?;
        UnixListener::from_std(fd.into())
    }

    /// As [`listen_named`](Worker::listen_named), for a UDP socket (`ListenDatagram=`). Where the workers share one, each
    /// datagram comes to one of them.
    ///
    /// # Errors
    ///
    /// When no UDP socket was passed under this name, or several of different addresses were: ask for each by its address
    /// then, by [`bind_udp`](Worker::bind_udp). The error lists the names, or the addresses.
    ///
    /// # Cancellation
    ///
    /// As for [`listen`](Worker::listen).
    pub async fn bind_udp_named(&self, name: impl Into<String>) -> io::Result<UdpSocket> {
        let (kind, name) = (Passed::Udp, name.into());
        let fd = self.socket(Request::Named { kind, name }).await?;
        UdpSocket::from_std(fd.into())
    }

    /// A listener on the Unix socket `path`, readable and writable by this user only (mode 0600). One socket
    /// is shared by all workers: each that waits for connections is woken by every one. So of more than four workers that
    /// [`serve`](Worker::serve) from it two wait at a time, in turn. A stale file, to which nobody listens, is replaced; of two servers that start at once
    /// on a path, one fails. A relative path is one of this worker's working directory.
    ///
    /// The file has its permissions from the moment at which it can be found, and is removed when the last worker
    /// gives the socket up. If somebody else removes it, a warning says so, and the next rolling restart makes it
    /// again.
    ///
    /// On Linux, `@name` is an abstract name: it has no file and no permissions, and every program of the same network
    /// namespace can connect. Write `./@name` for a file that is called so.
    ///
    /// # Errors
    ///
    /// When another program listens there, or the file can't be made; the error names the path.
    ///
    /// # Cancellation
    ///
    /// As for [`listen`](Worker::listen).
    pub async fn listen_unix(&self, path: impl AsRef<Path>) -> io::Result<UnixListener> {
        self.listen_unix_with_mode(path, 0o600).await
    }

    /// As [`listen_unix`](Worker::listen_unix), with the permissions given: `0o660` for the group too. Those of
    /// a socket that is open already stay.
    ///
    /// # Errors
    ///
    /// As for [`listen_unix`](Worker::listen_unix).
    ///
    /// # Cancellation
    ///
    /// As for [`listen`](Worker::listen).
    pub async fn listen_unix_with_mode(
        &self,
        path: impl AsRef<Path>,
        mode: u32,
    ) -> io::Result<UnixListener> {
        let path = absolute(path.as_ref())?;
        let fd = self.socket(Request::ListenUnix { path, mode }).await?;
        UnixListener::from_std(fd.into())
    }

    /// A UDP socket bound to `addr`, one for each worker; the kernel spreads flows over them. Kept by the
    /// supervisor as listeners are.
    ///
    /// While a worker and its successor overlap in a rolling restart they share datagrams, and a change in
    /// the number of workers moves flows from one to another.
    ///
    /// # Errors
    ///
    /// As for [`listen`](Worker::listen).
    ///
    /// # Cancellation
    ///
    /// As for [`listen`](Worker::listen).
    pub async fn bind_udp(&self, addr: impl ToSocketAddrs + fmt::Debug) -> io::Result<UdpSocket> {
        let fd = self
            .inet_socket(addr, |asked, addrs| Request::BindUdp { asked, addrs })
            .await?;
        UdpSocket::from_std(fd.into())
    }

    /// Gives up this worker's socket on `addr`, written as it was when it was asked for, or a Unix socket by
    /// its path: once its listeners are dropped the port brings no new connections to this worker. All that was
    /// asked for by that name is given up: TCP and UDP, and with port 0 every port.
    ///
    /// # Errors
    ///
    /// When this worker holds no socket of that name; the error names it.
    ///
    /// # Cancellation
    ///
    /// Dropping the future is safe; the socket may be given up or not.
    pub async fn unlisten(&self, addr: impl fmt::Display) -> io::Result<()> {
        let line = &self.shared.line;
        let asked = addr.to_string();
        // The supervisor's working directory need not be this worker's.
        let path = std::path::absolute(&asked).ok();
        let path = path.and_then(|path| path.into_os_string().into_string().ok());
        let (not_found, asked) = match (line.request(Request::Unlisten { asked }).await, path) {
            (Err(error), Some(asked)) if error.kind() == io::ErrorKind::NotFound => (error, asked),
            (given_up, _) => return given_up.map(drop),
        };
        match line.request(Request::Unlisten { asked }).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(not_found),
            given_up => given_up.map(drop),
        }
    }

    async fn inet_socket(
        &self,
        addr: impl ToSocketAddrs + fmt::Debug,
        request: impl FnOnce(String, Vec<SocketAddr>) -> Request,
    ) -> io::Result<OwnedFd> {
        let asked = format!("{addr:?}").trim_matches('"').to_owned();
        match tokio::net::lookup_host(addr).await {
            Ok(addrs) => self.socket(request(asked, addrs.collect())).await,
            // What a name stood for when it was first asked for is kept: no outage of the name service
            // keeps a worker from starting again.
            Err(error) => self
                .socket(request(asked.clone(), Vec::new()))
                .await
                .map_err(|_| {
                    io::Error::new(error.kind(), format!("cannot resolve `{asked}`: {error}"))
                }),
        }
    }

    async fn socket(&self, request: Request) -> io::Result<OwnedFd> {
        let granted = self.shared.line.request(request).await?;
        granted.ok_or_else(|| io::Error::other("the supervisor's answer has no socket"))
    }
}

/// The path of a Unix socket, for the supervisor, whose working directory need not be this worker's.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().as_bytes().starts_with(b"@") {
        return Ok(path.to_owned());
    }
    std::path::absolute(path).map_err(|error| {
        let path = path.display();
        io::Error::new(error.kind(), format!("cannot listen on {path}: {error}"))
    })
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = &self.shared.identity;
        f.debug_struct("Worker")
            .field("name", &identity.name)
            .field("count", &identity.count)
            .field("generation", &identity.generation)
            .field("isolation", &identity.isolation)
            .field("stop", &self.shared.told.stop.get())
            .finish()
    }
}
