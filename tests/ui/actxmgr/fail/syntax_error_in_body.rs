use aioxide::actxmgr;

#[actxmgr]
async fn connection(url: String) -> u32 {
    let _length = url.;
    yield_(1).await;
}

async fn user() {
    connection(String::new()).await.exit().await;
}

fn main() {}
