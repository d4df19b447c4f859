//! What a timer logs. In a program of its own: where one thread logs without a subscriber while another one
//! installs its own, tracing may take the event for one that nobody wants.

use std::future::Future;
use std::sync::{Arc, Mutex};

use aioxide::{Overlap, Tick, timer};
use aioxide_tests::timers::{every, ms, paused};
use tokio::time::sleep;

/// What is logged while `f` runs.
fn logged(f: impl Future<Output = ()>) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || paused().block_on(f));
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[timer(100ms, timeout = 50ms, name = "prober")]
async fn probe(tick: Tick) -> Result<(), String> {
    match tick.index() {
        0 => Err("no route".to_owned()),
        1 => panic!("number {}", tick.index()),
        2 => {
            sleep(ms(60)).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

#[test]
fn failures_are_logged_with_the_names_of_timer_and_tick() {
    let log = logged(async {
        let timer = probe();
        assert_eq!(timer.stats().name, "prober");
        sleep(ms(450)).await;
        timer.stop().await;
    });
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    for (line, says) in lines.iter().zip([
        [
            "ERROR",
            "a tick failed",
            "timer=\"prober\"",
            "tick=0",
            "no route",
        ],
        [
            "ERROR",
            "a tick panicked",
            "timer=\"prober\"",
            "tick=1",
            "number 1",
        ],
        [
            "ERROR",
            "a tick timed out",
            "timer=\"prober\"",
            "tick=2",
            "50ms",
        ],
    ]) {
        assert!(says.iter().all(|word| line.contains(word)), "{line}");
    }
}

#[test]
fn starvation_and_crowds_are_warned_of() {
    let log = logged(async {
        let timer = every(10)
            .overlap(Overlap::Cancel)
            .start(|_| sleep(ms(1000)));
        sleep(ms(95)).await;
        timer.stop().await;
    });
    assert_eq!(log, "", "nine replacements");
    let log = logged(async {
        let timer = every(10)
            .overlap(Overlap::Cancel)
            .start(|_| sleep(ms(1000)));
        sleep(ms(105)).await;
        timer.stop().await;
    });
    assert!(
        log.contains("WARN") && log.contains("10 ticks in a row"),
        "{log}"
    );

    let log = logged(async {
        let timer = every(10).overlap(Overlap::Cancel).start(|tick| async move {
            let completes = tick.index() == 9;
            sleep(ms(if completes { 1 } else { 1000 })).await;
        });
        sleep(ms(195)).await;
        timer.stop().await;
        assert_eq!((timer.stats().started, timer.stats().completed), (20, 1));
    });
    assert_eq!(log, "", "nine replacements, twice");

    let log = logged(async {
        let timer = every(1).overlap(Overlap::ALLOW).start(|_| sleep(ms(5000)));
        sleep(ms(1100)).await;
        assert_eq!(timer.stats().running, 1024);
        timer.stop().await;
    });
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
    assert!(log.contains("running=1024"), "{log}");

    let log = logged(async {
        let timer = every(1).overlap(Overlap::Allow(2)).start(|_| sleep(ms(50)));
        sleep(ms(100)).await;
        timer.stop().await;
    });
    assert_eq!(log, "", "a cap of one's own is meant");
}

/// As one that `tracing_subscriber::fmt` writes to when the terminal is gone.
struct Gone;

impl std::io::Write for Gone {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        panic!("the terminal is gone")
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_that_panics_does_not_end_a_timer() {
    let subscriber = tracing_subscriber::fmt().with_writer(|| Gone).finish();
    tracing::subscriber::with_default(subscriber, || {
        paused().block_on(async {
            let timer = probe();
            sleep(ms(450)).await;
            timer.stop().await;
            let stats = timer.stats();
            assert_eq!((stats.failed, stats.completed), (3, 2));
        });
    });
}
