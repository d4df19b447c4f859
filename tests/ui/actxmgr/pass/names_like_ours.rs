use aioxide::actxmgr;

#[allow(dead_code)]
fn context() {}

#[actxmgr]
async fn own_names(__aioxide_yielder: u8, __aioxide_end: u8, exit: u8, value: u8) -> u8 {
    let __aioxide_value = __aioxide_yielder + __aioxide_end + exit;
    yield_(value + __aioxide_value).await;
}

fn main() {
    let _ = own_names(1, 2, 3, 4);
}
