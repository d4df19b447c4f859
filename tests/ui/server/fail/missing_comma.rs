use aioxide::{Worker, server};

#[server(workers = 4 isolation = process)]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
