//! The peers that run on Python, in an environment of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const INSTEAD: &str = "`--without-python` leaves all that runs on Python out";

pub(crate) struct Python {
    program: PathBuf,
}

/// The programs beside this package's sources.
pub(crate) fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

impl Python {
    /// Installs what is missing in this folder.
    pub(crate) fn set_up(folder: &Path) -> Result<Python> {
        let program = folder.join("bin/python");
        if !folder.join("bin/pip").exists() {
            let mut venv = Command::new("python3");
            run(venv.args(["-m", "venv"]).arg(folder))?;
        }
        let python = Python { program };
        let requirements = peers().join("requirements.txt");
        let mut pip = python.module("pip");
        pip.args(["install", "--quiet", "--disable-pip-version-check"]);
        run(pip.arg("-r").arg(requirements))?;
        Ok(python)
    }

    /// One of the programs beside this package's sources.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(peers().join(name));
        command
    }

    /// One of what is installed.
    pub(crate) fn module(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-m", name]);
        command
    }

    /// Of Python itself and of what is installed.
    pub(crate) fn versions(&self) -> Result<String> {
        const VERSIONS: &str = "
import importlib.metadata, platform
names = 'aiotools', 'uvloop', 'trio', 'gunicorn', 'uvicorn'
peers = [name + ' ' + importlib.metadata.version(name) for name in names]
print(', '.join(['Python ' + platform.python_version(), *peers]))";
        let mut python = Command::new(&self.program);
        Ok(run(python.args(["-c", VERSIONS]))?.trim().to_owned())
    }
}

fn run(command: &mut Command) -> Result<String> {
    let what = format!("{command:?}");
    let output = command
        .output()
        .with_context(|| format!("{what} can't be started; {INSTEAD}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let told = [String::from_utf8_lossy(&output.stdout), told].concat();
        bail!(
            "{what} ended with {}; {INSTEAD}:\n{}",
            output.status,
            told.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_tells_what_and_what_to_do_instead() {
        let error = run(Command::new("sh").args(["-c", "echo no venv >&2; exit 3"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"sh\" \"-c\" \"echo no venv >&2; exit 3\" ended with exit status: 3; \
             `--without-python` leaves all that runs on Python out:\nno venv"
        );
        let error = run(&mut Command::new("/nowhere/python3")).unwrap_err();
        assert!(error.to_string().ends_with(INSTEAD));
    }
}
