use aioxide::{Worker, server};

#[server(hang_timeout = 0s)]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
