use aioxide::{Worker, server};

struct Echo;

impl Echo {
    #[server]
    async fn echo(&self, worker: Worker) {
        let _ = worker;
        yield_().await;
    }
}

fn main() -> std::process::ExitCode {
    Echo.echo().run()
}
