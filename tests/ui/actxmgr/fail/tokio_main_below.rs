use aioxide::actxmgr;

#[actxmgr]
#[tokio::main]
async fn connection() -> u32 {
    yield_(1).await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
