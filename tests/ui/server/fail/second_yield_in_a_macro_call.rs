use aioxide::{Worker, server};

#[server]
async fn echo(worker: Worker) {
    let _ = worker;
    tokio::select! {
        stop = yield_() => println!("{stop}"),
        stop = yield_() => println!("{stop}"),
    }
}

fn main() -> std::process::ExitCode {
    echo().run()
}
