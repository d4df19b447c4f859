use aioxide::actxmgr;

#[actxmgr(teardown_timeout = 5s)]
async fn connection() -> u32 {
    yield_(1).await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
