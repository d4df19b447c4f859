use aioxide::actxmgr;

#[actxmgr]
async fn outer(n: u8) -> u8 {
    #[actxmgr]
    async fn inner(n: u8) -> u8 {
        yield_(n + 1).await;
    }

    struct Local(u8);

    impl Local {
        #[actxmgr]
        async fn method(self) -> u8 {
            yield_(self.0).await;
        }
    }

    trait Provides: Sized + Send + 'static {
        #[actxmgr]
        async fn provided(self) {
            yield_().await;
        }
    }
    impl Provides for u8 {}

    let inner = inner(n).await;
    let method = Local(*inner).method().await;
    let provided = n.provided().await;
    yield_(*method).await;
    provided.exit().await;
    method.exit().await;
    inner.exit().await;
}

fn main() {
    let _ = outer(1);
}
