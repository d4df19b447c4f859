use std::rc::Rc;

use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    let held = Rc::new(1);
    yield_(*held).await;
    drop(held);
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
