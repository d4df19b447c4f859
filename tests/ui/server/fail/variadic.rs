use aioxide::{Worker, server};

#[server]
async fn echo(worker: Worker, _: ...) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
