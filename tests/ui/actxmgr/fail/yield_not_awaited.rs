use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    let yielded = yield_(1);
    yielded.await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
