use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    for n in 0..3 {
        yield_(n).await;
    }
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
