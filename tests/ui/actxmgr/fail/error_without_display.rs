use aioxide::actxmgr;

struct Silent;

#[actxmgr]
async fn connection() -> Result<u32, Silent> {
    yield_(1).await;
    Ok(())
}

async fn user() -> Result<(), Silent> {
    connection().await?.exit().await
}

fn main() {}
