use aioxide::{Worker, server};

#[server]
async fn echo(worker: Worker, config: &str) {
    println!("{} with {config}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo("config").run()
}
