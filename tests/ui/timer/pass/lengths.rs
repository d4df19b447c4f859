//! Every way to write a length of time.
use std::time::Duration;

use aioxide::timer;

const PERIOD: Duration = Duration::from_millis(250);

#[timer(1_000ms)]
async fn underscore() {}
#[timer(1.5s)]
async fn fraction() {}
#[timer(1d2h3m4s5ms)]
async fn all_units() {}
#[timer(2min)]
async fn minutes() {}
#[timer("1h 30m")]
async fn text() {}
#[timer((100ms))]
async fn in_parentheses() {}
#[timer(PERIOD * 2)]
async fn constant() {}
#[timer(Duration::from_millis(millis), first = half, jitter = PERIOD / 100)]
async fn arguments(millis: u64, half: Duration) {
    let _ = (millis, half);
}
#[timer(interval, first = interval)]
async fn keyword_wins(interval: Duration) {
    let _ = interval;
}
#[timer(after = delay)]
async fn fixed_delay(delay: Duration) {
    let _ = delay;
}
#[timer(jitter)]
async fn named_like_an_option(jitter: Duration) {
    let _ = jitter;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    underscore().detach();
    fraction().detach();
    all_units().detach();
    minutes().detach();
    text().detach();
    in_parentheses().detach();
    constant().detach();
    arguments(100, PERIOD).detach();
    keyword_wins(PERIOD).detach();
    fixed_delay(PERIOD).detach();
    named_like_an_option(PERIOD).detach();
}
