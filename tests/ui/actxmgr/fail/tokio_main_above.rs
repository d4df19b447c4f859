use aioxide::actxmgr;

#[tokio::main]
#[actxmgr]
async fn connection() -> u32 {
    yield_(1).await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
