use aioxide::{Worker, server};

#[derive(Clone)]
struct Config {
    port: String,
}

async fn exporter(worker: Worker, port: u16) {
    println!("exports on {port}");
    worker.stopping().await;
}

#[server(extra = [exporter(config.port)])]
async fn echo(worker: Worker, config: Config) {
    println!("{} has {}", worker.index(), config.port);
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo(Config { port: "9100".to_owned() }).run()
}
