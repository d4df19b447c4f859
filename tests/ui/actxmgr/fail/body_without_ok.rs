use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> Result<u32, String> {
    yield_(1).await;
}

async fn user() -> Result<(), String> {
    connection().await?.exit().await
}

fn main() {}
