//! Programs of several servers, and what a process is: a worker, or none.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use aioxide_tests::{Ended, Folder, Running, Signal, assert_graceful, under_both_isolations};

const SEVERAL: &str = env!("CARGO_BIN_EXE_several_servers");
const PLAIN: &str = env!("CARGO_BIN_EXE_plain");

fn several(isolation: &str, args: &str) -> Command {
    let mut command = Command::new(SEVERAL);
    command
        .args(["--isolation", isolation])
        .args(args.split_whitespace());
    command
}

/// Both servers run, with their own workers, and a signal stops both.
#[track_caller]
fn assert_both_run(command: &mut Command, bodies: [&str; 2]) -> Ended {
    let mut server = Running::start(command);
    let mut ready = 0;
    let mut running = Vec::new();
    while ready < 2 {
        let line = server.wait_for("");
        ready += usize::from(line.contains("2 workers are ready"));
        running.extend(line.contains(" runs index=").then_some(line));
    }
    for body in bodies {
        let of_body = running
            .iter()
            .filter(|line| line.contains(&format!("{body} runs")));
        let expected = if bodies[0] == bodies[1] { 4 } else { 2 };
        assert_eq!(of_body.count(), expected, "{running:#?}");
    }
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    ended
}

/// A worker used to run the other server's function, or to end at once, in 4 of 15 starts.
fn two_at_once_have_workers_of_their_own(isolation: &str) {
    for round in 0..aioxide_tests::rounds(60) {
        let args = match round % 4 {
            0 => "",
            1 => "--later 30",
            2 => "--on-main 0",
            _ => "--on-main 1 --later 30",
        };
        assert_both_run(&mut several(isolation, args), ["first", "second"]);
    }
}

fn two_of_one_function_are_told_apart_by_name(isolation: &str) {
    let args = "--names admin --names public";
    let ended = assert_both_run(&mut several(isolation, args), ["same", "same"]);
    for comm in ["admin/0", "admin/1", "public/0", "public/1"] {
        let named = format!("comm=\"{comm}\"");
        assert_eq!(ended.lines(&named).count(), 1, "{comm}: {:#?}", ended.log);
    }
}

#[test]
fn two_of_one_name_with_processes_are_refused() {
    let mut server = Running::start(&mut several("process", "--names= --names= --later 100"));
    let refused = server.wait_for("another server of the name `several_servers::same` is running");
    assert!(refused.contains("`Server::name`"), "{refused}");
    server.wait_until_logged("2 workers are ready");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    assert_eq!(ended.lines("same runs").count(), 2, "{:#?}", ended.log);
}

#[test]
fn two_of_one_name_with_threads_run() {
    let args = "--names= --names=";
    assert_both_run(&mut several("thread", args), ["same", "same"]);
}

fn a_server_inside_a_worker_is_an_error(isolation: &str) {
    let mut server = Running::start(&mut several(isolation, "--nested pool"));
    server.wait_for("it is run inside a worker of another server");
    server.wait_for("the inner server gave Ok(ExitCode(unix_exit_status(1)))");
    server.wait_for("1 worker is ready");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.lines("first runs").count(), 0, "{:#?}", ended.log);
}

/// There it can't be told from a server that the program runs beside this one, which has to be waited for.
#[test]
fn a_server_on_a_thread_of_a_worker_process_is_told_of_and_never_succeeds() {
    let mut server = Running::start(&mut several("process", "--nested own"));
    let told = server.wait_until_logged("is not run here: this process is a worker of");
    assert!(told.contains("`several_servers::first`"), "{told}");
    server.wait_until_logged("1 worker is ready");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.lines("first runs").count(), 0, "{:#?}", ended.log);
}

fn what_is_a_worker_says_so(isolation: &str) {
    let mut server = Running::start(&mut several(isolation, "--names a --names b"));
    server.wait_for("main is_worker=false");
    for _ in 0..4 {
        let line = server.wait_for("same runs");
        assert!(line.contains("is_worker=true"), "{line}");
    }
    let ended = server.stop(Signal::TERM);
    let starts = ended.lines("main is_worker=true").count();
    assert_eq!(starts, if isolation == "process" { 4 } else { 0 });
}

under_both_isolations! {
    two_at_once_have_workers_of_their_own,
    two_of_one_function_are_told_apart_by_name,
    a_server_inside_a_worker_is_an_error,
    what_is_a_worker_says_so,
}

#[test]
fn a_process_that_ends_badly_after_its_worker_ended_well_has_failed() {
    let mut server = Running::start(&mut several("process", "--ends-with 7"));
    server.wait_for("2 workers are ready");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    for worker in ["worker 0", "worker 1"] {
        let told = ended.errors().into_iter();
        let told = told.filter(|line| line.contains(worker));
        let told: Vec<_> = told
            .filter(|line| line.contains("exited with code 7 after its end"))
            .collect();
        assert_eq!(told.len(), 1, "{:#?}", ended.log);
    }
}

/// Points `current` at a release, as a deployment does: at once.
fn deploy(folder: &Folder, release: &str) {
    let (new, current) = (folder.file("new"), folder.file("current"));
    symlink(folder.file(release), &new).unwrap();
    std::fs::rename(new, current).unwrap();
}

fn release(folder: &Folder, name: &str) {
    let release = folder.file(name);
    std::fs::create_dir(&release).unwrap();
    std::fs::hard_link(PLAIN, release.join("server"))
        .or_else(|_| std::fs::copy(PLAIN, release.join("server")).map(drop))
        .unwrap();
    std::fs::write(release.join("release"), name).unwrap();
}

/// `cd current && ./server`, then the link moves.
fn in_current(folder: &Folder) -> Running {
    let script = format!(
        "cd {} && exec ./server --isolation process --grandchild 'cat release; cat release >&2; echo >&2'",
        folder.file("current").display()
    );
    Running::start(Command::new("sh").args(["-c", &script]))
}

#[test]
fn a_relative_start_finds_the_new_release_through_the_link() {
    let folder = Folder::new();
    release(&folder, "one");
    release(&folder, "two");
    // A hard link to the same program would be the same executable.
    let two = folder.file("two/server");
    std::fs::remove_file(&two).unwrap();
    std::fs::copy(PLAIN, &two).unwrap();
    deploy(&folder, "one");
    let mut server = in_current(&folder);
    server.wait_for("one");
    server.wait_until_ready();
    deploy(&folder, "two");
    std::fs::remove_dir_all(folder.file("one")).unwrap();
    server.signal(Signal::HUP);
    server.wait_for("two");
    server.wait_for("rolling restart done");
    let images = server.children().into_iter().map(|pid| {
        let exe = format!("/proc/{}/exe", pid.as_raw_nonzero());
        std::fs::read_link(exe).unwrap()
    });
    for image in images {
        assert_eq!(image, Path::new(&two));
    }
    assert_graceful(&server.stop(Signal::TERM));
}

#[test]
fn a_worker_is_started_although_the_folder_it_was_started_in_is_gone() {
    let folder = Folder::new();
    release(&folder, "one");
    deploy(&folder, "one");
    let script = format!(
        "cd {} && exec ./server --isolation process --on-failure restart",
        folder.file("one").display()
    );
    let mut server = Running::start(Command::new("sh").args(["-c", &script]));
    server.wait_until_ready();
    std::fs::remove_dir_all(folder.file("one")).unwrap();
    let worker = server.wait_for_child();
    rustix::process::kill_process(worker, Signal::KILL).unwrap();
    server.wait_for("killed by SIGKILL");
    server.wait_for("set up");
    server.wait_for("is ready");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}
