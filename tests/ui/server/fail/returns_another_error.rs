use aioxide::{Worker, server};

struct Broken;

#[server]
async fn echo(worker: Worker) -> Result<(), Broken> {
    let _ = worker;
    yield_().await;
    Err(Broken)
}

fn main() -> std::process::ExitCode {
    echo().run()
}
