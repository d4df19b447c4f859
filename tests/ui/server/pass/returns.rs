//! What a worker may return.
use std::error::Error;
use std::io;
use std::process::ExitCode;

use aioxide::{Server, Worker, server};

type Alias = Result<(), String>;

#[server(workers = 1, run_to_completion)]
async fn unit(_: Worker) -> () {
    yield_().await;
}
#[server(workers = 1, run_to_completion)]
async fn io_result(_: Worker) -> io::Result<()> {
    yield_().await;
    Ok(())
}
#[server(workers = 1, run_to_completion)]
async fn alias(_: Worker) -> Alias {
    yield_().await;
    let n: u8 = "7".parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
    let _ = n;
    Ok(())
}
#[server(workers = 1, run_to_completion)]
async fn boxed(_: Worker, early: bool) -> Result<(), Box<dyn Error + Send + Sync>> {
    yield_().await;
    if early {
        return Ok(());
    }
    "7".parse::<u8>()?;
    Ok(())
}
#[server(workers = 1, run_to_completion)]
async fn only_from_a_question_mark(_: Worker) -> Result<(), Box<dyn Error + Send + Sync>> {
    yield_().await;
    Ok("".parse().map(|_: u8| ())?)
}

fn main() -> ExitCode {
    let servers: [fn() -> Server; 4] = [unit, io_result, alias, || boxed(true)];
    let failed = servers.into_iter().position(|server| server().run() != ExitCode::SUCCESS);
    assert_eq!(failed, None);
    assert_ne!(only_from_a_question_mark().run(), ExitCode::SUCCESS);
    ExitCode::SUCCESS
}
