//! Blocks the signals named by its first argument, separated by commas, and becomes the program of the others.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sys::signal::{SigSet, Signal};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(names), Some(program)) = (args.next(), args.next()) else {
        eprintln!("usage: blocks_signals SIGTERM,SIGCHLD program arguments..");
        return ExitCode::FAILURE;
    };
    let signals: Result<SigSet, _> = names.split(',').map(str::parse::<Signal>).collect();
    match signals.and_then(|signals| signals.thread_block()) {
        Ok(()) => {
            let error = Command::new(&program).args(args).exec();
            eprintln!("cannot run {program}: {error}");
        }
        Err(error) => eprintln!("cannot block {names}: {error}"),
    }
    ExitCode::FAILURE
}
