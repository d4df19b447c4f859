use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    let give = yield_;
    give(1).await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
