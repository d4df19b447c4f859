use aioxide::actxmgr;

#[actxmgr(borrowed, finish_setup)]
async fn connection(url: &str) -> usize {
    yield_(url.len()).await;
}

async fn user() {
    connection("localhost").await.exit().await;
}

fn main() {}
