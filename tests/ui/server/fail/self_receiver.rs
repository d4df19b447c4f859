use aioxide::server;

struct Echo;

impl Echo {
    #[server]
    async fn echo(&self, worker: aioxide::Worker) {
        let _ = worker;
        yield_().await;
    }
}

fn main() -> std::process::ExitCode {
    Echo.echo().run()
}
