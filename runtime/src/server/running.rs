//! A server that runs beside the program that has started it.

use std::fmt;

use tokio::sync::watch;

use super::Addresses;
use super::supervisor::{Asked, Progress, Requester};

/// A server that [`Server::start`](super::Server::start) has started, and that runs beside the rest of the program.
///
/// **Dropped, it stops the server**, gracefully and in the background; nobody waits for its end then. Await
/// [`stop`](Running::stop) to wait for it. Modelled on tokio's `JoinHandle`, but for that.
///
/// ```
/// use std::io;
/// use aioxide::{Worker, server};
/// use tokio::io::AsyncReadExt;
/// use tokio::net::TcpStream;
///
/// #[server(workers = 2)]
/// async fn greeter(worker: Worker, greeting: String) -> io::Result<()> {
///     let listener = worker.listen("127.0.0.1:0").await?;
///     let serving = worker.serve(listener, move |mut stream| {
///         let greeting = greeting.clone();
///         async move { tokio::io::AsyncWriteExt::write_all(&mut stream, greeting.as_bytes()).await }
///     });
///     let stop = yield_().await;
///     serving.drain(&stop).await;
///     Ok(())
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// // In a `#[tokio::test]`:
/// let running = greeter("hello".to_owned()).start();
/// running.ready().await?;
/// let address = running.addresses()["127.0.0.1:0"];
///
/// let mut greeting = String::new();
/// TcpStream::connect(address).await?.read_to_string(&mut greeting).await?;
/// assert_eq!(greeting, "hello");
///
/// assert_eq!(running.stop().await, 0);
/// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[must_use = "dropping it stops the server"]
pub struct Running {
    name: String,
    requester: Requester,
    progress: watch::Receiver<Progress>,
}

impl Running {
    pub(crate) fn new(
        name: String,
        requester: Requester,
        progress: watch::Receiver<Progress>,
    ) -> Running {
        Running {
            name,
            requester,
            progress,
        }
    }

    /// Waits until all workers and extras are ready. Once they have been, it returns at once.
    ///
    /// # Errors
    ///
    /// When the server ends before that; the error tells the exit code and the first failure.
    ///
    /// # Cancellation
    ///
    /// Cancel-safe: it only watches.
    pub async fn ready(&self) -> Result<(), NotReady> {
        let reached = self
            .until(|progress| progress.ready || progress.code.is_some())
            .await;
        match reached {
            Some(progress) if progress.ready => Ok(()),
            ended => Err(NotReady::new(ended.unwrap_or_default())),
        }
    }

    /// Where the server listens, by what its workers and extras have asked for so far: all of it once it is
    /// [`ready`](Running::ready).
    pub fn addresses(&self) -> Addresses {
        self.progress.borrow().addresses.clone()
    }

    /// Starts the workers again, each before its predecessor stops, as SIGHUP does for a server that is
    /// [`run`](super::Server::run). Returns at once; one that is asked for while another is going on follows it.
    pub fn reload(&self) {
        self.requester.ask(Asked::Reload);
    }

    /// Changes the number of workers. Returns at once; while a rolling restart is going on it waits for that.
    ///
    /// A number below 1, or above four times both the number at start and that of the cores, is taken for that
    /// limit; at the limit already, the log says so at WARN.
    pub fn scale(&self, workers: usize) {
        self.requester.ask(Asked::Scale(workers));
    }

    /// Stops the server gracefully, and gives its exit code: that of [`Server::run`](super::Server::run), as a
    /// number.
    ///
    /// The server has its [`shutdown_timeout`](super::Server::shutdown_timeout) for it. A worker whose event loop
    /// is blocked then can't be ended, as no thread can: it is named in the log, counted and left, and the code is
    /// 3. When this returns, everything else is gone, listening sockets included.
    ///
    /// # Cancellation
    ///
    /// Dropping the future once it has been polled leaves the server stopping. May be awaited again, also with
    /// [`wait`](Running::wait).
    pub async fn stop(&self) -> u8 {
        self.requester.ask(Asked::StopRequested);
        self.wait().await
    }

    /// Waits for the server's end, for whatever reason it comes, and gives the exit code: that of
    /// [`Server::run`](super::Server::run), as a number.
    ///
    /// # Cancellation
    ///
    /// Cancel-safe: it only watches.
    pub async fn wait(&self) -> u8 {
        let ended = self.until(|progress| progress.code.is_some()).await;
        code_of(&ended.unwrap_or_default())
    }

    /// `None` if the supervisor has gone without a word, which only a panic of it does.
    async fn until(&self, reached: impl FnMut(&Progress) -> bool) -> Option<Progress> {
        let mut progress = self.progress.clone();
        let progress = progress.wait_for(reached).await.ok()?;
        Some(progress.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.requester.ask(Asked::StopRequested);
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let progress = self.progress.borrow();
        f.debug_struct("Running")
            .field("name", &self.name)
            .field("ready", &progress.ready)
            .field("addresses", &progress.addresses)
            .field("code", &progress.code)
            .finish()
    }
}

fn code_of(progress: &Progress) -> u8 {
    // The policy's codes are those of the table, which fit.
    let code = progress.code.and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(1)
}

/// The error of [`Running::ready`]: the server ended before it was ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server ended with exit code {code} before it was ready{}", because(.failure))]
pub struct NotReady {
    code: u8,
    failure: Option<String>,
}

impl NotReady {
    fn new(progress: Progress) -> NotReady {
        NotReady {
            code: code_of(&progress),
            failure: progress.failure,
        }
    }

    /// The server's exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

fn because(failure: &Option<String>) -> String {
    match failure {
        Some(failure) => format!(": {failure}"),
        None => String::new(),
    }
}
