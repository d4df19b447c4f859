use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    async fn inner() {
        yield_(1).await;
    }
    inner().await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
