use aioxide::{Worker, server};

#[server]
async fn echo<C: Send + 'static>(worker: Worker, config: C) {
    let _ = (worker, config);
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo(5).run()
}
