use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    async {
        yield_(1).await;
    }
    .await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
