use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> (u32, u32) {
    yield_(1, 2).await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
