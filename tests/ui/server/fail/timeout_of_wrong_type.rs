use aioxide::{Worker, server};

const WINDOW: u64 = 60;

#[server(restart_window = WINDOW)]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
