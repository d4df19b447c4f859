use aioxide::{Worker, server};

#[server]
async extern "C" fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
