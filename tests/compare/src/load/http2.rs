//! Clients of HTTP/2, by reqwest, which asks again what a server has refused by GOAWAY.

use std::error::Error;
use std::time::Instant;

use anyhow::Result;
use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::{Load, Outcome, PAUSE_AFTER_FAILURE};
use crate::failures::Failure;

/// A client for each connection of this load, as long as `goes_on`.
pub(crate) async fn run_while(load: Load, goes_on: impl Fn() -> bool) -> Result<Outcome> {
    let start = Instant::now();
    let clients = (0..load.connections as u64).map(|client| run(load, client, &goes_on));
    let mut outcome = Outcome::none()?;
    for of_client in try_join_all(clients).await? {
        outcome.add(&of_client)?;
    }
    outcome.took = start.elapsed();
    Ok(outcome)
}

async fn run(load: Load, client: u64, goes_on: &impl Fn() -> bool) -> Result<Outcome> {
    let http2 = reqwest::Client::builder().http2_prior_knowledge();
    let http2 = http2.timeout(load.timeout).build()?;
    let mut outcome = Outcome::none()?;
    outcome.connections = 1;
    for number in 0.. {
        sleep(load.pause(client + number)).await;
        if !goes_on() {
            break;
        }
        let message = format!("{client}-{number}");
        let start = Instant::now();
        match ask(&http2, load, &message).await {
            Ok(answer) if answer == message => outcome.answered(start.elapsed()),
            Ok(_) => outcome.failures.count(Failure::WrongBytes),
            Err(error) => {
                let failure = Failure::Other(root(&error));
                outcome.failures.count(failure);
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
    Ok(outcome)
}

async fn ask(client: &reqwest::Client, load: Load, message: &str) -> reqwest::Result<String> {
    let request = client.get(format!("http://{}/?{message}", load.address));
    request.send().await?.error_for_status()?.text().await
}

/// What says most about it.
fn root(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => root(cause),
        None => error.to_string(),
    }
}
