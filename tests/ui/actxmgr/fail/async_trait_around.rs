use aioxide::actxmgr;

struct Pool;

#[async_trait::async_trait]
trait Connect {
    #[actxmgr]
    async fn connect(self) -> Result<u32, String>;
}

#[async_trait::async_trait]
impl Connect for Pool {
    #[actxmgr]
    async fn connect(self) -> Result<u32, String> {
        yield_(1).await;
        Ok(())
    }
}

async fn user() -> Result<(), String> {
    Pool.connect().await?.exit().await
}

fn main() {}
