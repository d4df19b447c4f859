use aioxide::{Worker, server};

#[server(roll_overlap = 0)]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
