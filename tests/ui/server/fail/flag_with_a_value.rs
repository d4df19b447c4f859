use aioxide::{Worker, server};

#[server(share_port = true)]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
