use aioxide::actxmgr;

#[actxmgr]
async fn connection(url: &str) -> usize {
    yield_(url.len()).await;
}

async fn user() {
    let url = String::from("localhost");
    connection(&url).await.exit().await;
}

fn main() {}
