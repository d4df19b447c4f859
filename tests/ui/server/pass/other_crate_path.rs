//! The library under another name; `aioxide` is something else here.
pub extern crate aioxide as library;
extern crate core as aioxide;

mod vendored {
    pub use crate::library as servers;
}
use vendored::servers::{Worker, actxmgr, server};

#[actxmgr(crate = vendored::servers)]
async fn database() -> u16 {
    yield_(5432).await;
}

#[server(workers = 1, isolation = thread, on_failure = ignore, stop_signals = [SIGTERM], main = database, run_to_completion, crate = crate::vendored::servers)]
async fn echo(_: Worker, port: u16, argument: u8) {
    yield_().await;
    assert_eq!((port, argument), (5432, 7));
}

fn main() -> std::process::ExitCode {
    echo(7).run()
}
