use aioxide::{Worker, server};

fn cores() -> u64 {
    4
}

#[server(workers = cores())]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
