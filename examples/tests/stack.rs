//! The stack example as a real process.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use aioxide_tests::{Ended, Running};
use tempfile::TempDir;

fn stack(folder: &TempDir, args: &[&str]) -> Ended {
    let program = env!("CARGO_BIN_EXE_stack");
    Running::start(
        Command::new(program)
            .args(args)
            .env("TMPDIR", folder.path()),
    )
    .wait()
}

fn position(ended: &Ended, text: &str) -> usize {
    let mut positions = (0..ended.log.len()).filter(|&at| ended.log[at].contains(text));
    let (position, other) = (positions.next(), positions.next());
    assert_eq!(other, None, "`{text}` is there twice");
    position.unwrap_or_else(|| panic!("no `{text}`: {:#?}", ended.log))
}

/// What stands after `text` in the log.
fn told<'e>(ended: &'e Ended, text: &str) -> &'e str {
    let line = &ended.log[position(ended, text)];
    line.split(text).nth(1).unwrap_or_default().trim()
}

fn assert_order(ended: &Ended, texts: &[&str]) {
    let positions: Vec<usize> = texts.iter().map(|text| position(ended, text)).collect();
    assert!(positions.is_sorted(), "{:#?}", ended.log);
}

fn assert_nothing_is_left(ended: &Ended, folder: &TempDir) {
    let mut left = folder.path().read_dir().expect("a folder");
    assert!(left.next().is_none());
    assert!(TcpStream::connect(told(ended, ": listening on ")).is_err());
}

#[test]
fn resources_are_undone_in_the_opposite_order() {
    let folder = TempDir::new().expect("a folder");
    let ended = stack(&folder, &["child", "folder", "listener", "folder"]);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_order(
        &ended,
        &[
            "0: started child ",
            "1: made folder ",
            "2: listening on ",
            "3: made folder ",
            "all is still there",
            "3: folder removed: completed",
            "2: listener closed: completed",
            "1: folder removed: completed",
            "0: child ended by exit status: 0: completed",
        ],
    );
    assert_nothing_is_left(&ended, &folder);
    let child = told(&ended, "0: started child ");
    assert!(!Path::new("/proc").join(child).exists());
}

#[test]
fn what_was_set_up_before_a_failure_is_undone() {
    let folder = TempDir::new().expect("a folder");
    let ended = stack(
        &folder,
        &[
            "--program",
            "/no/such/program",
            "folder",
            "listener",
            "child",
        ],
    );
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    assert_order(
        &ended,
        &[
            "0: made folder ",
            "1: listening on ",
            "1: listener closed: cancelled",
            "0: folder removed: cancelled",
            "No such file or directory",
        ],
    );
    assert_nothing_is_left(&ended, &folder);
}

#[test]
fn an_empty_stack_is_left_at_once() {
    let folder = TempDir::new().expect("a folder");
    let ended = stack(&folder, &[]);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}
