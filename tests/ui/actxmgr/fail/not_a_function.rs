use aioxide::actxmgr;

#[actxmgr]
struct Connection {
    url: String,
}

fn main() {
    let _ = Connection { url: String::new() }.url;
}
