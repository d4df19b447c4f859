use aioxide::{Worker, server};

async fn metrics(worker: Worker) -> u16 {
    worker.stopping().await;
    9100
}

#[server(extra = [metrics])]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
