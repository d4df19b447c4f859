use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    tokio::select! {
        _ = yield_(1) => {}
        _ = tokio::task::yield_now() => {}
    }
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
