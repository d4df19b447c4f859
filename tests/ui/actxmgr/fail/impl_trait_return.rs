use aioxide::actxmgr;

#[actxmgr]
async fn numbers() -> Result<impl Iterator<Item = u32>, String> {
    yield_(0..3).await;
    Ok(())
}

async fn user() -> Result<(), String> {
    let mut numbers = numbers().await?;
    assert_eq!(numbers.next(), Some(0));
    numbers.exit().await
}

fn main() {}
