use aioxide::{Worker, server};

fn log(level: u8) {
    println!("{level}");
}

#[server(init = log)]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
