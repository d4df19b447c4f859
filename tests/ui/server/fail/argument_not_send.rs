use aioxide::{Worker, server};
use std::rc::Rc;

#[server]
async fn echo(worker: Worker, config: Rc<str>) {
    println!("{} with {config}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo("config".into()).run()
}
