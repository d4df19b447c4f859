use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    yield_(1).await;
    yield_(2).await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
