use aioxide::actxmgr;

struct Url<'a>(&'a str);

#[actxmgr]
async fn connection(url: Url) -> usize {
    yield_(url.0.len()).await;
}

async fn user() {
    connection(Url("localhost")).await.exit().await;
}

fn main() {}
