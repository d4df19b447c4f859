use aioxide::{Worker, server};

#[server]
async fn echo(worker: &Worker) {
    println!("{}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
