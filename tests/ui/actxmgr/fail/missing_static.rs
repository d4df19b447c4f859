use aioxide::actxmgr;

#[actxmgr]
async fn wrapped<T: Send>(value: T) -> T {
    yield_(value).await;
}

async fn user() {
    wrapped(1).await.exit().await;
}

fn main() {}
