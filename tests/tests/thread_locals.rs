//! What is dropped when its thread ends, after tokio's own thread-locals. In a program of its own: a panic there aborts
//! it, and a clock that was paused once changes it for good.

use std::cell::RefCell;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use aioxide::{Always, Guard, Timer, actxmgr};
use tokio::runtime::Builder;

const DEADLINE: Duration = Duration::from_secs(60);

#[actxmgr]
async fn left_behind(torn_down: Sender<()>) {
    yield_().await;
    let _ = torn_down.send(());
}

thread_local! {
    static TIMER: RefCell<Option<Timer>> = const { RefCell::new(None) };
    static GUARD: RefCell<Option<Guard<Always<()>>>> = const { RefCell::new(None) };
}

#[test]
fn a_timer_and_a_guard_may_outlive_the_clock() {
    let mut paused = Builder::new_current_thread();
    let paused = paused.enable_all().start_paused(true).build().unwrap();
    paused.block_on(async {});

    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let (torn_down, guard_ended) = channel();
    let (held, timer_ended) = channel::<()>();
    let handle = runtime.handle().clone();
    let thread = thread::spawn(move || {
        // They are dropped in the opposite order of their first use: after those of tokio.
        TIMER.set(None);
        GUARD.set(None);
        handle.block_on(async {
            let timer = Timer::every(Duration::from_secs(3600));
            TIMER.set(Some(timer.start(move |_| {
                let _held = &held;
                async {}
            })));
            GUARD.set(Some(left_behind(torn_down).await));
        });
    });
    thread.join().unwrap();
    guard_ended.recv_timeout(DEADLINE).unwrap();
    assert_eq!(
        timer_ended.recv_timeout(DEADLINE),
        Err(RecvTimeoutError::Disconnected)
    );
}
