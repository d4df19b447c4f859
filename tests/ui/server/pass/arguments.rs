//! What a worker may take.
use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;

use aioxide::{Server, Worker, server};

#[server(workers = 2, run_to_completion)]
async fn patterns(_: Worker, (mut a, [b, _]): (u8, [u8; 2]), mut c: u8, whole @ (_, _): (u8, u8)) {
    yield_().await;
    a += b;
    c += a;
    assert_eq!((c, whole), (7, (5, 6)));
}

#[server(workers = 1, run_to_completion)]
async fn borrows_for_ever(
    worker: Worker,
    name: &'static str,
    call: fn(&str) -> usize,
    check: impl Fn(&u8) -> bool + Clone + Send + 'static,
) {
    yield_().await;
    assert_eq!((worker.index(), call(name), check(&7)), (0, 4, true));
}

#[server(workers = count, run_to_completion)]
async fn generic<T, E, const N: usize>(worker: Worker, items: [T; N], count: usize) -> Result<(), E>
where
    T: Display + Clone + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    yield_().await;
    assert_eq!((items.map(|item| item.to_string()).len(), worker.count()), (N, count));
    Ok(())
}

/// Its own name is that of an argument, too.
#[server(workers = 1, run_to_completion)]
async fn echo(_worker: Worker, worker: Arc<str>, get: u8) {
    yield_().await;
    assert_eq!((&*worker, get), ("argument", 7));
}

struct Echo;

impl Echo {
    #[server(workers = 1, run_to_completion)]
    async fn associated(_: Worker, text: String) {
        yield_().await;
        assert_eq!(text, "text");
    }
}

fn main() -> ExitCode {
    let servers: [fn() -> Server; 5] = [
        || patterns((1, [2, 3]), 4, (5, 6)),
        || borrows_for_ever("name", str::len, |n| *n == 7),
        || generic::<_, std::io::Error, 2>(["a", "b"], 2),
        || echo("argument".into(), 7),
        || Echo::associated("text".to_owned()),
    ];
    let failed = servers.into_iter().position(|server| server().run() != ExitCode::SUCCESS);
    assert_eq!(failed, None);
    ExitCode::SUCCESS
}
