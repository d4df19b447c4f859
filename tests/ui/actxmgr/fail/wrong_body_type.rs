use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> Result<u32, String> {
    let (value, _exit) = yield_(1).await;
    Ok(value)
}

async fn user() -> Result<(), String> {
    connection().await?.exit().await
}

fn main() {}
