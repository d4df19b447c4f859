//! Functions with arguments, and expressions of the caller's arguments.
#![deny(warnings)]

use std::process::ExitCode;

use aioxide::{Addresses, Isolation, OnFailure, Worker, actxmgr, server};

#[derive(Clone)]
struct Config {
    text: String,
    number: u16,
    isolation: Isolation,
}

#[actxmgr]
async fn database(text: String, times: usize) -> Result<String, std::io::Error> {
    let exit = yield_(text.repeat(times)).await;
    drop(exit);
    Ok(())
}

mod parts {
    use super::*;

    pub async fn router<T: ToString>(worker: Worker, number: T) {
        assert_eq!(number.to_string(), "8");
        worker.stopping().await;
    }
    pub fn metrics(worker: Worker, database: String, number: u16, text: &'static str) -> Result<(), String> {
        assert_eq!((&*database, number, text), ("aa", 7, "text"));
        worker.stopped_blocking();
        Ok(())
    }
    pub fn plain(worker: Worker) {
        worker.stopped_blocking();
    }
}

fn announce(addresses: &Addresses) {
    assert_eq!(addresses.iter().count(), 0);
}

const IGNORE: OnFailure = OnFailure::Ignore;

#[server(
    workers = 1,
    isolation = config.isolation,
    main = database(config.text, 2),
    extra = [
        parts::router::<u16>(config.number + 1),
        parts::metrics(main, config.number, "text"),
        parts::plain(),
        parts::plain,
    ],
    on_ready = announce,
    on_failure = IGNORE,
    run_to_completion,
)]
async fn everything(worker: Worker, database: String, config: Config) {
    yield_().await;
    assert_eq!((worker.count(), &*database, &*config.text), (1, "aa", "a"));
}

#[server(workers = 1, isolation = isolation, on_failure = if ignore { IGNORE } else { OnFailure::Restart }, run_to_completion)]
async fn words(_: Worker, isolation: Isolation, ignore: bool) {
    yield_().await;
}

fn main() -> ExitCode {
    let (text, isolation) = ("a".to_owned(), Isolation::Thread);
    assert_eq!(words(isolation, true).run(), ExitCode::SUCCESS);
    everything(Config { text, number: 7, isolation }).run()
}
