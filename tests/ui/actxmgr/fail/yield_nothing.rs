use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> String {
    yield_().await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
