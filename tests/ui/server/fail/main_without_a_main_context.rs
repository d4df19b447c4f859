use aioxide::{Worker, server};

async fn exporter(worker: Worker, port: u16) {
    println!("exports on {port}");
    worker.stopping().await;
}

#[server(extra = [exporter(main)])]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
