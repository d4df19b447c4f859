use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    yield_("one").await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
