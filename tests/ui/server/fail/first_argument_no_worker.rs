use aioxide::server;

#[server]
async fn echo(workers: usize) {
    println!("one of {workers}");
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
