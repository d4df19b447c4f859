use aioxide::actxmgr;

struct Pool(String);

impl Pool {
    #[actxmgr]
    async fn connection(&self) -> usize {
        yield_(self.0.len()).await;
    }
}

async fn user() {
    Pool(String::new()).connection().await.exit().await;
}

fn main() {}
