use aioxide::actxmgr;

#[actxmgr]
async fn outer(n: u8) -> u8 {
    #[actxmgr]
    async fn inner(n: u8) -> u8 {
        yield_(n + 1).await;
    }
    let inner = inner(n).await;
    yield_(*inner).await;
    inner.exit().await;
}

fn main() {
    let _ = outer(1);
}
