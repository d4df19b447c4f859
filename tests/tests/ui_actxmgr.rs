//! What misuse of `#[actxmgr]` says: one rule, one file, and each file uses the item, so that the recorded
//! output also shows that no second error follows.

/// Messages of rustc differ from version to version: they are compared on the one they were recorded with.
const RECORDED_WITH: &str = "rustc 1.95.0 ";

fn recorded() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = std::process::Command::new(rustc)
        .arg("--version")
        .output()
        .expect("rustc tells its version");
    String::from_utf8_lossy(&version.stdout).starts_with(RECORDED_WITH)
}

#[test]
fn actxmgr() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/actxmgr/pass/*.rs");
    if recorded() {
        cases.compile_fail("ui/actxmgr/fail/*.rs");
    }
}
