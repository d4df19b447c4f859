//! `aioxide::logging::init` in real servers.

use std::process::{Command, Stdio};

use aioxide_tests::{Running, under_both_isolations};

fn logged(isolation: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logged"));
    command.arg(isolation);
    command
}

fn each_line_names_its_worker(isolation: &str) {
    let ended = Running::start(&mut logged(isolation)).wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    for worker in ["[worker 0]", "[worker 1]"] {
        let lines: Vec<&str> = ended.lines(worker).collect();
        assert_eq!(lines.len(), 1, "{:#?}", ended.log);
        assert!(lines[0].contains(" INFO logged: hello"), "{}", lines[0]);
    }
    // What the supervisor says.
    assert!(
        ended.lines(" [-]  INFO aioxide").count() > 0,
        "{:#?}",
        ended.log
    );
}

fn a_log_that_nobody_reads_ends_no_server(isolation: &str) {
    let mut server = logged(isolation)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts");
    drop(server.stderr.take());
    let status = server.wait().expect("the server can be waited for");
    assert_eq!(status.code(), Some(0));
}

under_both_isolations!(
    each_line_names_its_worker,
    a_log_that_nobody_reads_ends_no_server,
);
