use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    yield 1;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
