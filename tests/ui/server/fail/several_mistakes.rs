use aioxide::{Worker, server};

#[server(workers = 0, on_failure = reboot, share_prot)]
fn echo(worker: Worker) {
    worker.stopping().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
