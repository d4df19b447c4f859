use aioxide::server;

#[server]
async fn echo() {
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
