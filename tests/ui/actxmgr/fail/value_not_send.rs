use std::rc::Rc;

use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> Rc<u32> {
    yield_(Rc::new(1)).await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
