//! What a function may take.
use std::fmt::Display;
use std::sync::Arc;

use aioxide::{Tick, Timer, timer};

#[timer(100ms)]
async fn patterns((mut a, [b, _]): (u8, [u8; 2]), _: String, mut c: u8, whole @ (_, _): (u8, u8)) {
    a += b;
    c += a;
    let _ = (c, whole);
}
#[timer(100ms)]
async fn borrows_for_ever(name: &'static str, call: fn(&str) -> usize, check: impl Fn(&u8) -> bool + Clone + Send + Sync + 'static) {
    let _ = (call(name), check(&7));
}
#[timer(100ms)]
async fn generic<T, const N: usize>(_tick: Tick, items: [T; N])
where
    T: Display + Clone + Send + 'static,
{
    for item in items {
        println!("{item}");
    }
}
#[timer(100ms)]
async fn by_path(tick: aioxide::Tick) {
    tick.cancelled().await;
}

#[derive(Clone)]
struct Heart(Arc<str>);

impl Heart {
    #[timer(100ms)]
    async fn shared(self: Arc<Self>, tick: Tick, extra: u8) {
        let beat = || format!("{}{extra}{self:p}", self.0);
        println!("{} {}", tick.index(), beat());
        Self::helper(&self);
    }
    #[timer(100ms)]
    async fn by_value(mut self) {
        self.0 = "new".into();
        Self::helper(&self);
    }
    fn helper(&self) {}
}

trait Beats: Sized {
    const LOUD: bool;
    fn beat(self) -> Timer;
    #[timer(100ms)]
    async fn by_default(self)
    where
        Self: Clone + Send + 'static,
    {
        let _ = (self, Self::LOUD);
    }
}

impl Beats for Heart {
    const LOUD: bool = true;
    #[timer(100ms)]
    async fn beat(self) {
        println!("{} {}", self.0, Self::LOUD);
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    patterns((1, [2, 3]), String::new(), 4, (5, 6)).detach();
    borrows_for_ever("name", str::len, |n| *n == 7).detach();
    generic(["a", "b"]).detach();
    by_path().detach();
    let heart = Heart("heart".into());
    Arc::new(heart.clone()).shared(7).detach();
    heart.clone().by_value().detach();
    heart.clone().by_default().detach();
    heart.beat().detach();
}
