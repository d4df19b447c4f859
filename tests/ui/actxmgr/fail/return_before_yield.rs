use aioxide::actxmgr;

#[actxmgr]
async fn connection(early: bool) -> Result<u32, String> {
    if early {
        return Ok(());
    }
    yield_(1).await;
    Ok(())
}

async fn user() -> Result<(), String> {
    connection(true).await?.exit().await
}

fn main() {}
