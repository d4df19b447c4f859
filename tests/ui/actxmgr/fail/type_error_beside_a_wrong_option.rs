use aioxide::actxmgr;

#[actxmgr(borowed)]
async fn connection() -> u32 {
    let number: u32 = "one";
    yield_(number).await;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
