use aioxide::{Worker, server};

const METRICS: u16 = 9100;

#[server(extra = [METRICS])]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
