use aioxide::{Worker, server};

#[server(start_timeout = 60sec)]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
