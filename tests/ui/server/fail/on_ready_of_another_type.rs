use aioxide::{Worker, server};

fn announce(address: String) {
    println!("{address}");
}

#[server(on_ready = announce)]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
