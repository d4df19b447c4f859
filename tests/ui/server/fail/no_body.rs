use aioxide::server;

trait Echo {
    #[server]
    async fn echo(worker: aioxide::Worker);
}

impl Echo for () {
    fn echo() -> aioxide::Server {
        aioxide::Server::new(async |_| ())
    }
}

fn main() -> std::process::ExitCode {
    <() as Echo>::echo().run()
}
