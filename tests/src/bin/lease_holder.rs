//! Holds a lease and works under it, one due time after the other, and tells on stdout what it does. It goes by what
//! the store says alone: it never looks at a clock to see whether it still holds the lease. With `--timer` it is a timer
//! with `single` that works.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aioxide::lease::{BoxLease, FileLease, Held, Lease, LeaseError, Owner, Progress, Token};
use aioxide::{Delivery, Missed, Overlap, Tick, Timer};
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    store: Store,
    /// The lease.
    #[arg(long)]
    name: String,
    /// In milliseconds.
    #[arg(long)]
    ttl: u64,
    /// How long the work of a due time takes, in milliseconds.
    #[arg(long)]
    work: u64,
    /// A due time is recorded before its work, not after it.
    #[arg(long)]
    at_most_once: bool,
    /// A timer does the work, whose clock began at this time, in nanoseconds since 1970.
    #[arg(long)]
    timer: Option<u64>,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Store {
    #[arg(long)]
    file: Option<String>,
    #[cfg(feature = "stores")]
    #[arg(long)]
    postgres: Option<String>,
    #[cfg(feature = "stores")]
    #[arg(long)]
    etcd: Option<String>,
}

impl Store {
    async fn lease(&self) -> Result<BoxLease, LeaseError> {
        #[cfg(feature = "stores")]
        if let Some(url) = &self.postgres {
            return Ok(BoxLease::new(aioxide::lease::PostgresLease::new(url)?));
        }
        #[cfg(feature = "stores")]
        if let Some(url) = &self.etcd {
            return Ok(BoxLease::new(
                aioxide::lease::EtcdLease::connect([url]).await?,
            ));
        }
        let folder = self.file.as_ref().expect("clap has asked for one of them");
        Ok(BoxLease::new(FileLease::new(folder)?))
    }
}

/// Due time `n` is `n` seconds after the epoch.
fn due(n: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(n)
}

struct Holder {
    lease: BoxLease,
    name: String,
    owner: Owner,
    ttl: Duration,
    work: Duration,
    at_most_once: bool,
    stop: Signal,
    stdout: File,
}

/// How holding the lease ended.
enum End {
    Lost,
    Stopped,
}

impl Holder {
    /// One line, in one piece, also among other processes.
    fn tell(&mut self, what: &str, n: u64, held: &Held) {
        let line = format!("{} {what} {n} {}\n", std::process::id(), held.token);
        self.stdout
            .write_all(line.as_bytes())
            .expect("the test reads it");
    }

    async fn run(&mut self) {
        loop {
            match self.lease.hold(&self.name, &self.owner, self.ttl).await {
                Ok(Some(held)) => {
                    if let End::Stopped = self.work(held).await {
                        return;
                    }
                }
                Ok(None) => {
                    tokio::select! {
                        () = self.lease.changed(&self.name, self.ttl) => {}
                        _ = self.stop.recv() => return,
                    }
                }
                Err(error) => self.wait_after(&error).await,
            }
        }
    }

    async fn work(&mut self, held: Held) -> End {
        let last = held.last.map_or(UNIX_EPOCH, |(due, _)| due);
        let mut n = last
            .duration_since(UNIX_EPOCH)
            .expect("none is earlier")
            .as_secs();
        let mut renewed = Instant::now();
        self.tell("held", n, &held);
        loop {
            n += 1;
            if self.at_most_once && !self.record(&held, n, Progress::Started).await {
                return End::Lost;
            }
            self.tell("start", n, &held);
            let done = Instant::now() + self.work;
            while Instant::now() < done {
                // In pieces, for that's how long a renewal may be late.
                sleep(self.work.min(self.ttl / 10)).await;
                if renewed.elapsed() < self.ttl / 3 {
                    continue;
                }
                match self.lease.hold(&self.name, &self.owner, self.ttl).await {
                    Ok(Some(again)) if again.token == held.token => renewed = Instant::now(),
                    // Only the token tells that it is lost.
                    Ok(_) => {}
                    Err(error) => self.wait_after(&error).await,
                }
            }
            self.tell("done", n, &held);
            if !self.at_most_once && !self.record(&held, n, Progress::Done).await {
                return End::Lost;
            }
            if has_come(&mut self.stop) {
                while let Err(error) = self.lease.release(&self.name, held.token).await {
                    self.wait_after(&error).await;
                }
                self.tell("released", n, &held);
                return End::Stopped;
            }
        }
    }

    /// Whether the store has taken it.
    async fn record(&mut self, held: &Held, n: u64, at: Progress) -> bool {
        loop {
            match self.lease.record(&self.name, held.token, due(n), at).await {
                Ok(()) => {
                    self.tell("recorded", n, held);
                    return true;
                }
                Err(error) if error.is_stale() => {
                    self.tell("stale", n, held);
                    return false;
                }
                Err(error) => self.wait_after(&error).await,
            }
        }
    }

    async fn wait_after(&self, error: &LeaseError) {
        let _ = writeln!(io::stderr(), "{} {error}", std::process::id());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Tells what the store has taken from a timer, and what it hasn't.
struct Told {
    lease: BoxLease,
    interval: Duration,
}

/// One line, in one piece, also among other processes.
fn tell(what: &str, due: SystemTime, interval: Duration, token: Token) {
    let since = due.duration_since(UNIX_EPOCH).expect("none is earlier");
    let (since, interval) = (since.as_nanos(), interval.as_nanos());
    let (n, rest) = (since / interval, since % interval);
    // Where a lease begins isn't a due time.
    if rest == 0 {
        let line = format!("{} {what} {n} {token}\n", std::process::id());
        let stdout = io::stdout().as_fd().try_clone_to_owned();
        let mut stdout = File::from(stdout.expect("stdout is open"));
        stdout
            .write_all(line.as_bytes())
            .expect("the test reads it");
    }
}

impl Lease for Told {
    async fn hold(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
    ) -> Result<Option<Held>, LeaseError> {
        self.lease.hold(name, owner, ttl).await
    }

    async fn record(
        &self,
        name: &str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> Result<(), LeaseError> {
        let recorded = self.lease.record(name, token, due, at).await;
        match &recorded {
            Ok(()) => tell("recorded", due, self.interval, token),
            Err(error) if error.is_stale() => tell("stale", due, self.interval, token),
            Err(error) => drop(writeln!(io::stderr(), "{} {error}", std::process::id())),
        }
        recorded
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), LeaseError> {
        self.lease.release(name, token).await
    }

    async fn changed(&self, name: &str, ttl: Duration) {
        self.lease.changed(name, ttl).await;
    }
}

/// Works until it is told to stop. A due time comes as soon as the work of the last may be over.
async fn run_timer(options: Options, lease: BoxLease, since: u64) {
    let work = Duration::from_millis(options.work);
    let interval = 2 * work;
    let since = UNIX_EPOCH + Duration::from_nanos(since);
    let now = move || UNIX_EPOCH + SystemTime::now().duration_since(since).unwrap_or_default();
    let timer = Timer::every(interval)
        .name(options.name)
        .clock(now)
        .single_by(Told { lease, interval })
        .ttl(Duration::from_millis(options.ttl))
        .delivery(match options.at_most_once {
            true => Delivery::AtMostOnce,
            false => Delivery::AtLeastOnce,
        })
        .overlap(Overlap::Queue(100_000))
        .missed(Missed::Burst(100_000))
        .start(move |tick: Tick| async move {
            let token = tick.token().expect("it is under a lease");
            tell("start", tick.scheduled_at(), interval, token);
            sleep(work).await;
            tell("done", tick.scheduled_at(), interval, token);
        });
    signal(SignalKind::terminate())
        .expect("a handler can be installed")
        .recv()
        .await;
    timer.stop().await;
}

/// Whether a signal has come.
fn has_come(signal: &mut Signal) -> bool {
    use std::task::{Context, Waker};
    signal
        .poll_recv(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let lease = match options.store.lease().await {
        Ok(lease) => lease,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(since) = options.timer {
        run_timer(options, lease, since).await;
        return ExitCode::SUCCESS;
    }
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    let mut holder = Holder {
        lease,
        name: options.name,
        owner: Owner::unique(),
        ttl: Duration::from_millis(options.ttl),
        work: Duration::from_millis(options.work),
        at_most_once: options.at_most_once,
        stop: signal(SignalKind::terminate()).expect("a handler can be installed"),
        stdout: stdout.expect("stdout is open").into(),
    };
    holder.run().await;
    ExitCode::SUCCESS
}
