//! Echoes WebSocket messages, and takes its leave of each client when its worker is asked to stop.
//!
//! ```text
//! cargo run --release -p aioxide-examples --features websocket --bin websocket -- --listen 127.0.0.1:8080
//! ```
//!
//! In a rolling restart, `kill -HUP`, clients get a close frame with code 1001 and connect to the new workers. With
//! `balance` each worker has the same number of clients.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use aioxide::http::Stopping;
use aioxide::{Worker, server};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use clap::Parser;

/// How long a client may take to answer a goodbye.
const FAREWELL: Duration = Duration::from_secs(5);

/// Echoes WebSocket messages.
#[derive(Clone, Parser)]
struct Options {
    /// Where to listen: an address or a host name, with a port; port 0 picks a free one.
    #[arg(long, short, default_value = "127.0.0.1:8080")]
    listen: String,
    /// How many workers.
    #[arg(long, short, default_value_t = 4)]
    workers: usize,
}

async fn upgrade(upgrade: WebSocketUpgrade, Extension(stopping): Extension<Stopping>) -> Response {
    upgrade.on_upgrade(move |socket| echo(socket, stopping))
}

async fn echo(mut socket: WebSocket, mut stopping: Stopping) {
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                // Pings are answered by axum, and so is a goodbye.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            stop = &mut stopping => {
                let reason = stop.to_string().into();
                let close = CloseFrame { code: close_code::AWAY, reason };
                if socket.send(Message::Close(Some(close))).await.is_ok() {
                    let answered = async { while let Some(Ok(_)) = socket.recv().await {} };
                    let _ = tokio::time::timeout(FAREWELL, answered).await;
                }
                return;
            }
        }
    }
}

#[server(workers = options.workers, balance)]
async fn websocket(worker: Worker, options: Options) -> io::Result<()> {
    let listener = worker.listen(options.listen).await?;
    let app = Router::new().route("/", get(upgrade));
    let serving = worker.serve_http(listener, app);
    let stop = yield_().await;
    serving.drain(&stop).await;
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    aioxide::logging::init();
    websocket(options).run()
}
