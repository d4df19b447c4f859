//! `aioxide top`, on a terminal of tmux.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::door::Watched;
use aioxide_tests::{PATIENCE, Signal};
use rustix::process::{Pid, kill_process};

const AIOXIDE: &str = env!("CARGO_BIN_EXE_aioxide-command");
const WATCHED: &str = env!("CARGO_BIN_EXE_watched");

/// A terminal with a shell; dropped, it is gone.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn new() -> Terminal {
        static TERMINALS: AtomicUsize = AtomicUsize::new(0);
        let number = TERMINALS.fetch_add(1, Ordering::Relaxed);
        let terminal = Terminal {
            socket: format!("aioxide-{}-{number}", std::process::id()),
        };
        let shell = "PS1='shell> ' exec sh";
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "150",
            "-y",
            "40",
            shell,
        ]);
        terminal.until(|screen| screen.contains("shell>"));
        terminal
    }

    #[track_caller]
    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux")
            .env("LC_ALL", "C.UTF-8")
            .args(["-u", "-L", &self.socket])
            .args(args)
            .output()
            .expect("Debian's package `tmux` is installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn run(&self, line: &str) {
        self.press(&[line, "Enter"]);
    }

    fn top(&self, door: &Path) {
        self.run(&format!("{AIOXIDE} --socket {} top", door.display()));
    }

    #[track_caller]
    fn until(&self, accepts: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE * 2;
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if accepts(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "{screen}");
            // Nothing tells when a screen is another one.
            thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn until_shown(&self, text: &str) -> String {
        self.until(|screen| screen.contains(text))
    }

    /// It is as it was before: what was there is there, and what is typed is shown.
    #[track_caller]
    fn assert_restored(&self) {
        self.until(|screen| screen.contains("before") && !screen.contains("WORKER"));
        self.run("stty -a | tr ' ' '\\n' | grep -x -e '-*icanon' -e '-*echo' | paste -s");
        let screen = self.until(|screen| screen.lines().any(|line| line.starts_with("icanon")));
        assert!(
            screen.contains("icanon\techo")
                || screen.contains("icanon  echo")
                || screen.contains("icanon echo"),
            "{screen}"
        );
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .args(["-L", &self.socket, "kill-server"])
            .output();
    }
}

fn row<'s>(screen: &'s str, worker: &str) -> Option<&'s str> {
    screen.lines().find(|line| line.starts_with(worker))
}

fn pid(screen: &str, worker: &str) -> Option<i32> {
    row(screen, worker)?.split_whitespace().nth(2)?.parse().ok()
}

#[test]
fn a_server_is_shown_and_acted_upon() {
    let watched = Watched::start(WATCHED, "process", "--on-failure restart");
    let terminal = Terminal::new();
    terminal.run("echo before");
    terminal.top(&watched.door());
    let screen = terminal.until(|screen| {
        let is_ready = |worker| row(screen, worker).is_some_and(|row| row.contains(" ready "));
        is_ready("worker 0") && is_ready("worker 1") && screen.contains("all workers are ready")
    });
    assert!(screen.contains("watched  pid "), "{screen}");
    assert!(
        screen.contains("beat ") && screen.contains("sync "),
        "{screen}"
    );
    assert!(!screen.contains("before"), "{screen}");

    let before = pid(&screen, "worker 0").unwrap();
    kill_process(Pid::from_raw(before).unwrap(), Signal::KILL).unwrap();
    terminal.until(|screen| {
        pid(screen, "worker 0").is_some_and(|pid| pid != before)
            && row(screen, "worker 0")
                .is_some_and(|row| row.contains(" ready ") && row.contains("SIGKILL"))
    });

    terminal.press(&["Down", "r"]);
    terminal.until_shown("restart 1? y/n");
    terminal.press(&["n"]);
    terminal.until(|screen| !screen.contains("y/n"));
    terminal.press(&["r", "y"]);
    terminal.until_shown("restart 1: restarted");
    terminal.press(&["l"]);
    terminal.until_shown("reload? y/n");
    terminal.press(&["y"]);
    terminal.until_shown("reload: rolling restart done");
    terminal.press(&["s", "3"]);
    terminal.until_shown("number of workers, 1 to");
    terminal.press(&["Enter"]);
    terminal.until_shown("scale 3: the number of workers is 3");
    terminal.until(|screen| row(screen, "worker 2").is_some());
    terminal.press(&["-"]);
    terminal.until_shown("scale 2? y/n");
    terminal.press(&["Enter"]);
    terminal.until_shown("scale 2: the number of workers is 2");
    terminal.until(|screen| row(screen, "worker 2").is_none());
    terminal.press(&["s", "0", "Enter"]);
    terminal.until_shown("scale 0: error: the number of workers is 1 to");

    terminal.tmux(&["resize-window", "-x", "60", "-y", "20"]);
    terminal.until(|screen| screen.contains("STATE") && !screen.contains("RESTARTS"));
    terminal.tmux(&["resize-window", "-x", "150", "-y", "40"]);
    terminal.until_shown("RESTARTS");

    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    terminal.until_shown("can't be reached");
    terminal.press(&["q"]);
    terminal.assert_restored();
}

#[test]
fn the_terminal_is_restored_when_it_is_terminated() {
    let watched = Watched::start(WATCHED, "thread", "");
    let terminal = Terminal::new();
    terminal.run("echo before");
    terminal.top(&watched.door());
    terminal.until_shown("worker 1");
    let shell = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
    let shell: u32 = shell.trim().parse().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let top = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    kill_process(top, Signal::TERM).unwrap();
    terminal.assert_restored();
}

#[test]
fn the_terminal_is_restored_by_a_panic() {
    let terminal = Terminal::new();
    terminal.run("echo before");
    let panics = env!("CARGO_BIN_EXE_panics_on_terminal");
    terminal.run(&format!("RUST_BACKTRACE=0 {panics}"));
    // The message comes where it can be read.
    terminal.until(|screen| screen.contains("on the screen") && screen.contains("before"));
    terminal.assert_restored();
}
