use aioxide::{Worker, server};

#[server(max_restarts = -1)]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
