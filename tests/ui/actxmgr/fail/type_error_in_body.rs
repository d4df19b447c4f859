use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    let number: u32 = "one";
    yield_(number).await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
