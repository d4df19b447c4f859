use aioxide::actxmgr;

#[actxmgr]
async fn connection(early: bool) -> u32 {
    if early {
        return;
    }
    yield_(1).await;
}

async fn user() {
    connection(true).await.exit().await;
}

fn main() {}
