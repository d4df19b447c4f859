use aioxide::timer;

struct Heart(u32);

impl Heart {
    #[timer(100ms)]
    async fn beat(self) {
        println!("{}", self.0);
    }
}

fn main() {
    Heart(7).beat().detach();
}
