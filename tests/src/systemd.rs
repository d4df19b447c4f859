//! A real systemd, in namespaces of its own, with the units of a test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Folder, PATIENCE};

const SYSTEMD: &str = "/lib/systemd/systemd";

/// Ends with all that it has started when it is dropped.
#[derive(Debug)]
pub struct Systemd {
    unshare: Child,
    folder: Folder,
}

impl Systemd {
    /// Boots it. None where that can't be done, which is said on stderr: it takes root, and Debian's package `systemd`.
    pub fn boot() -> Option<Systemd> {
        if !rustix::process::geteuid().is_root() || !Path::new(SYSTEMD).exists() {
            return not_tested("it takes root and the package `systemd`");
        }
        let folder = Folder::new();
        let script = format!(
            "mount -t tmpfs tmpfs /run && exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=other \
             SYSTEMD_UNIT_PATH={} {SYSTEMD} --system --unit=boot.target --log-target=null",
            folder.path().display()
        );
        let unshare = Command::new("unshare")
            .args("--pid --fork --kill-child --mount --cgroup --mount-proc sh -c".split(' '))
            .arg(script)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare can be started");
        let mut systemd = Systemd { unshare, folder };
        systemd.unit("boot.target", "");
        let deadline = Instant::now() + PATIENCE;
        // Nothing tells from outside when it has booted.
        while systemd.ctl("is-system-running").stdout != b"running\n" {
            if let Ok(Some(status)) = systemd.unshare.try_wait() {
                return not_tested(&format!("no namespaces can be made here: {status}"));
            }
            if Instant::now() > deadline {
                return not_tested("it doesn't boot here");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Some(systemd)
    }

    /// Writes a unit that depends on nothing.
    pub fn unit(&self, name: &str, text: &str) {
        let text = format!("[Unit]\nDefaultDependencies=no\n{text}");
        std::fs::write(self.folder.file(name), text).expect("a unit can be written");
    }

    /// The path of a file beside the units.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    /// What `systemctl` says to this, within a minute.
    pub fn ctl(&self, args: &str) -> Output {
        self.run(&format!("systemctl {args}"))
    }

    /// As [`ctl`](Systemd::ctl), which must succeed.
    #[track_caller]
    pub fn must(&self, args: &str) {
        let output = self.ctl(args);
        assert!(output.status.success(), "{args}: {output:?}");
    }

    /// The value of a unit's property.
    pub fn property(&self, unit: &str, name: &str) -> String {
        let output = self.ctl(&format!("show --value -p {name} {unit}"));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Waits until a unit's property is this.
    #[track_caller]
    pub fn wait_for(&self, unit: &str, name: &str, value: &str) {
        self.wait_until(unit, name, value, |is| is == value);
    }

    /// As [`wait_for`](Systemd::wait_for), until it contains this.
    #[track_caller]
    pub fn wait_for_part(&self, unit: &str, name: &str, part: &str) {
        self.wait_until(unit, name, part, |is| is.contains(part));
    }

    #[track_caller]
    fn wait_until(&self, unit: &str, name: &str, wanted: &str, suits: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is = self.property(unit, name);
            if suits(&is) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{name} of {unit} is `{is}`, not `{wanted}`"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a command beside the units.
    pub fn run(&self, command: &str) -> Output {
        let children = format!("/proc/{0}/task/{0}/children", self.unshare.id());
        let pid = std::fs::read_to_string(children).unwrap_or_default();
        Command::new("nsenter")
            .args(["-m", "-p", "-t", pid.trim(), "timeout", "60"])
            .args(command.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .expect("nsenter can be started")
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

fn not_tested(why: &str) -> Option<Systemd> {
    eprintln!("NOT TESTED: no real systemd can be run: {why}");
    None
}
