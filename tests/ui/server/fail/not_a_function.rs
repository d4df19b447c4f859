use aioxide::server;

#[server]
struct Echo;

fn main() {
    let _ = Echo;
}
