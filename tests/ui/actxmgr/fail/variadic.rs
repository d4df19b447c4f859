use aioxide::actxmgr;

#[actxmgr]
async fn connection(port: u16, _: ...) -> u16 {
    yield_(port).await;
}

async fn user() {
    connection(1).await.exit().await;
}

fn main() {}
