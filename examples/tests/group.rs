//! The group example as a real process.

use std::process::Command;

use aioxide_tests::{Ended, Running};

fn group(args: &[&str]) -> Ended {
    let program = env!("CARGO_BIN_EXE_group");
    Running::start(Command::new(program).args(args)).wait()
}

/// How many sessions were opened and closed.
fn tally(ended: &Ended) -> (usize, usize) {
    let line = ended.lines("ended after").next();
    let line = line.unwrap_or_else(|| panic!("no end: {:#?}", ended.log));
    let number = |name: &str| {
        let number = line.split(name).nth(1)?.split(' ').next()?;
        number.parse().ok()
    };
    let (opened, closed) = (number("opened="), number("closed="));
    opened
        .zip(closed)
        .unwrap_or_else(|| panic!("no numbers in `{line}`"))
}

#[test]
fn a_thousand_sessions_are_opened_used_and_closed() {
    let ended = group(&["--sessions", "1000"]);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.lines("1000 sessions are open").count(), 1);
    assert_eq!(ended.lines("used all sessions: 499500").count(), 1);
    assert_eq!(tally(&ended), (1000, 1000));
}

#[test]
fn one_that_fails_takes_all_others_down() {
    // The last of the slowest: nearly all others are open by then.
    let ended = group(&["--sessions", "1000", "--failing", "999"]);
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    assert_eq!(ended.lines("sessions are open").count(), 0);
    let errors = ended.errors();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("session 999 is refused"), "{errors:#?}");
    let (opened, closed) = tally(&ended);
    assert!((900..1000).contains(&opened), "{opened}");
    assert_eq!(closed, opened);
}

#[test]
fn one_that_fails_first_leaves_the_others_unopened() {
    let ended = group(&["--sessions", "1000", "--failing", "0"]);
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    let (opened, closed) = tally(&ended);
    // On a slow machine some of the others have had their time.
    assert!(opened < 1000, "{opened}");
    assert_eq!(closed, opened);
}
