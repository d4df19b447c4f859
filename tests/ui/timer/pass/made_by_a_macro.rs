//! Functions, intervals and bodies from `macro_rules!`, whose fragments come in invisible groups.
use aioxide::timer;

macro_rules! timers {
    ($($name:ident: $interval:literal, $overlap:ident, $limit:expr, $ty:ty => $body:expr;)*) => {
        $(
            #[timer($interval, overlap = $overlap, timeout = $limit)]
            async fn $name(value: $ty) {
                let _ = (value, $body);
            }
        )*
    };
}

timers! {
    fast: 100ms, skip, 5s, u32 => 1 + 1;
    slow: "1h 30m", cancel, std::time::Duration::from_secs(7), String => ();
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    fast(7).detach();
    slow(String::new()).detach();
}
