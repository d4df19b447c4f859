use aioxide::actxmgr;

#[actxmgr(retries = 3, crate = "aioxide")]
fn connection(url: &str) -> usize {
    yield_(url.len()).await;
}

async fn user() {
    connection("localhost").await.exit().await;
}

fn main() {}
