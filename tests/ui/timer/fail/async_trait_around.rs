use aioxide::timer;

#[derive(Clone)]
struct Peers;

#[async_trait::async_trait]
trait Beat: Sized {
    #[timer(100ms)]
    async fn beat(self) {}
}

#[async_trait::async_trait]
impl Beat for Peers {}

fn main() {}
