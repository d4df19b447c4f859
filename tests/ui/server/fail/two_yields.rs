use aioxide::{Worker, server};

#[server]
async fn echo(worker: Worker) {
    if worker.index() == 0 {
        yield_().await;
    } else {
        yield_().await;
    }
}

fn main() -> std::process::ExitCode {
    echo().run()
}
