//! `main` itself, with all that it can have.
use std::io;

use aioxide::{Worker, actxmgr, server};

#[actxmgr]
async fn database() -> io::Result<(u16, &'static str)> {
    yield_((5432, "database")).await;
    Ok(())
}

#[server(workers = 2, main = database, run_to_completion)]
async fn main(worker: Worker, (port, name): (u16, &'static str)) -> io::Result<()> {
    let stop = yield_().await;
    assert!(stop.signal().is_none());
    assert_eq!((worker.count(), port, name), (2, 5432, "database"));
    Ok(())
}
