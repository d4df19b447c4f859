//! What `#[timer]` says to wrong use, and what it lets through.

#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/timer/pass/*.rs");
    // rustc's own words, of which there are some in every message, are those of one toolchain.
    if aioxide_tests::is_toolchain("1.95") {
        cases.compile_fail("ui/timer/fail/*.rs");
    }
}
