extern crate aioxide as vendored;

use vendored::{Worker, server};

mod aioxide {}

#[server(crate = vendored)]
async fn echo(worker: Worker) {
    let _ = worker;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
