//! Other attributes stay, and stay in place.
#![deny(deprecated, unused_must_use, dead_code, unused_variables, unfulfilled_lint_expectations)]
use aioxide::{Worker, server};

/// Documented.
#[cfg(not(any()))]
#[server(workers = 1, run_to_completion)]
#[must_use = "run it"]
#[inline(never)]
#[track_caller]
pub async fn kept(
    #[expect(unused_variables)] worker: Worker,
    #[cfg(any())] absent: u8,
    #[cfg(not(any()))] present: u8,
    #[allow(unused_variables)] unused: u8,
) {
    yield_().await;
    assert_eq!(present, 7);
}

#[cfg(any())]
#[server]
async fn kept() {}

#[cfg_attr(not(any()), server)]
#[allow(dead_code)]
async fn never_run(_: Worker) {
    yield_().await;
}

fn main() -> std::process::ExitCode {
    kept(7, 8).run()
}
