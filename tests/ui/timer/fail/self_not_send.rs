use aioxide::timer;
use std::rc::Rc;

#[derive(Clone)]
struct Heart(Rc<u32>);

impl Heart {
    #[timer(100ms)]
    async fn beat(self) {
        std::future::ready(()).await;
        println!("{}", self.0);
    }
}

fn main() {
    Heart(Rc::new(7)).beat().detach();
}
