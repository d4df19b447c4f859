//! A server with the handler of `guide::production`: connections that stay open, and end without losing a request.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use aioxide::{Stopping, Worker, server};
use aioxide_tests::fixture;
use clap::Parser;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
}

#[rustfmt::skip] // A test compares it with the guide's.
async fn session(stream: TcpStream, stopping: Stopping) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut leaving = false;
    loop {
        tokio::select! {
            biased;                                         // a request that has arrived goes first
            arrived = stream.fill_buf() => if arrived?.is_empty() { return Ok(()) },
            _ = stopping.clone(), if !leaving => {
                leaving = true;
                stream.write_all(b"bye\n").await?;          // the client may have sent one more already
                continue;
            }
            () = tokio::time::sleep(Duration::from_secs(1)), if leaving => return Ok(()), // an idle one
        }
        line.clear();
        stream.read_line(&mut line).await?;                 // never given up half-way
        stream.write_all(line.as_bytes()).await?;
    }
}

#[server]
async fn sessions(worker: Worker) -> io::Result<()> {
    let listener = worker.listen("127.0.0.1:0").await?;
    let handle = worker.clone();
    let serving = worker.serve(listener, move |stream| session(stream, handle.stopping()));
    let stop = yield_().await;
    serving.drain(&stop).await;
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse().server;
    fixture::log();
    options.apply(sessions()).run()
}
