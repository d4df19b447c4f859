//! Functions, options and bodies from `macro_rules!`, whose fragments come in invisible groups.
use std::process::ExitCode;

use aioxide::{Worker, server};

fn log() {}

macro_rules! servers {
    ($($vis:vis $name:ident: $workers:literal, $timeout:literal, $isolation:ident, $init:path, $signal:expr,
        $window:expr, $ty:ty => $body:block)*) => {
        $(
            #[server(
                workers = $workers,
                isolation = $isolation,
                init = $init,
                stop_signals = [$signal],
                start_timeout = $timeout,
                restart_window = $window,
                run_to_completion,
            )]
            $vis async fn $name(_worker: $ty, _number: u8) $body
        )*
    };
}

servers! {
    pub first: 1, 5s, thread, self::log, SIGTERM, 1h30m, Worker => {
        yield_().await;
    }
}

macro_rules! whole {
    ($item:item) => {
        #[server(workers = 1, run_to_completion)]
        $item
    };
}

whole! {
    /// Documented.
    async fn second(_: Worker) {
        yield_().await;
    }
}

macro_rules! with_its_own_yield {
    ($name:ident, $($body:tt)*) => {
        #[server(workers = 1, run_to_completion)]
        async fn $name(worker: Worker) {
            yield_().await;
            let _ = worker;
            $($body)*
        }
    };
}

with_its_own_yield!(third, assert_eq!(1 + 1, 2););

fn main() -> ExitCode {
    assert_eq!(second().run(), ExitCode::SUCCESS);
    assert_eq!(third().run(), ExitCode::SUCCESS);
    first(7).run()
}
