use aioxide::{Worker, server};

#[derive(Clone)]
struct Config {
    isolation: String,
}

#[server(isolation = config.isolation)]
async fn echo(worker: Worker, config: Config) {
    println!("{} has {}", worker.index(), config.isolation);
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo(Config { isolation: "process".to_owned() }).run()
}
