use aioxide::{Worker, server};

struct Config;

#[server]
async fn echo(worker: Worker, config: Config) {
    let _ = (worker, config);
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo(Config).run()
}
