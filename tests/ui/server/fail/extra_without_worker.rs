use aioxide::{Worker, server};

async fn metrics(port: u16) {
    println!("metrics at {port}");
}

#[server(extra = [metrics])]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
