use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    let _value = 1;
}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
