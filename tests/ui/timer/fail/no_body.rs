use std::sync::Arc;

use aioxide::timer;

trait Beats {
    #[timer(100ms)]
    async fn heartbeat(self: Arc<Self>);
}

fn start(beats: Arc<impl Beats>) {
    beats.heartbeat().detach();
}

struct Heart;

impl Beats for Heart {
    #[timer(100ms)]
    async fn heartbeat(self: Arc<Self>) {}
}

fn main() {
    start(Arc::new(Heart));
}
