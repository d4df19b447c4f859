use aioxide::{Signal, Worker, server};

#[derive(Clone)]
struct Config {
    upgrade: bool,
    signal: Signal,
}

#[server(upgrade = config.upgrade, upgrade_signal = config.signal)]
async fn echo(worker: Worker, config: Config) {
    println!("{} has {}, {:?}", worker.index(), config.upgrade, config.signal);
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo(Config { upgrade: true, signal: Signal::SIGUSR2 }).run()
}
