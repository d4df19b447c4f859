use aioxide::{Worker, server};

#[derive(Clone)]
struct Config {
    port: std::sync::Arc<Port>,
}

struct Port(u16);

async fn exporter(worker: Worker, port: Port) {
    println!("exports on {}", port.0);
    worker.stopping().await;
}

#[server(extra = [exporter(*config.port)])]
async fn echo(worker: Worker, config: Config) {
    println!("{} has {}", worker.index(), config.port.0);
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo(Config { port: std::sync::Arc::new(Port(9100)) }).run()
}
