use aioxide::actxmgr;

#[actxmgr(setup_timeout = 5s)]
async fn connection() -> Result<u32, String> {
    yield_(1).await;
    Ok(())
}

async fn user() -> Result<(), String> {
    connection().await?.exit().await
}

fn main() {}
