use aioxide::actxmgr;

#[actxmgr(setup_timeout = 5)]
async fn connection() -> std::io::Result<u32> {
    yield_(1).await;
    Ok(())
}

async fn user() -> std::io::Result<()> {
    connection().await?.exit().await
}

fn main() {}
