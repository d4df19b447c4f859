//! Every option, and every kind of value.
use std::process::ExitCode;
use std::time::Duration;

use aioxide::{Worker, actxmgr, server};

#[derive(Clone)]
struct Config {
    workers: usize,
    timeout: Duration,
}

mod parts {
    use super::*;

    #[actxmgr]
    pub async fn database() -> Result<String, std::io::Error> {
        let exit = yield_("database".to_owned()).await;
        let _ = exit;
        Ok(())
    }
    pub fn router(worker: Worker) {
        worker.stopped_blocking();
    }
    pub async fn metrics(worker: Worker) -> Result<(), String> {
        worker.stopping().await;
        Ok(())
    }
    pub fn init() {}
}

#[server(
    workers = config.workers * 2,
    isolation = thread,
    main = parts::database,
    extra = [parts::router, self::parts::metrics],
    init = parts::init,
    stop_signals = [SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR2, SIGALRM],
    shutdown_timeout = config.timeout,
    start_timeout = "1m 30s",
    on_failure = ignore,
    max_restarts = u32::try_from(config.workers).unwrap(),
    restart_window = 1h30m,
    hang_timeout = Duration::from_secs(30),
    roll_overlap = config.workers,
    balance,
    share_port,
    run_to_completion,
    crate = ::aioxide,
)]
async fn everything(worker: Worker, database: String, config: Config) {
    yield_().await;
    assert_eq!((worker.count(), &*database), (config.workers * 2, "database"));
}

#[server(workers = 1, extra = parts::router, on_failure = shutdown, run_to_completion)]
async fn one_extra(_: Worker) {
    yield_().await;
}

#[server(workers = 0x1, isolation = process, main = parts::database, on_failure = restart, max_restarts = 1u32, run_to_completion)]
async fn processes(_: Worker, database: String) {
    yield_().await;
    assert_eq!(database, "database");
}

fn main() -> ExitCode {
    let config = Config { workers: 1, timeout: Duration::from_secs(5) };
    drop(processes());
    assert_eq!(one_extra().run(), ExitCode::SUCCESS);
    everything(config).run()
}
