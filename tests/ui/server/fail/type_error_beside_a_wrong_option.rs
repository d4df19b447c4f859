use aioxide::{Worker, server};

#[server(wrokers = 4)]
async fn echo(worker: Worker) {
    let index: String = worker.index();
    println!("{index}");
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
