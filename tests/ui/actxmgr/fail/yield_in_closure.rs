use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    let ask = async || yield_(1).await;
    ask().await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
