use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    yield_(1).await;
}

async fn user() {
    let guard = connection().await;
    guard.exit().await;
    assert_eq!(*guard, 1);
}

fn main() {}
