//! The machine and the versions that figures come from.

use std::fs;
use std::iter;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::Result;

use crate::kinds::{Kind, NGINX, PUMA};
use crate::python::Python;

/// Of the build that runs.
const LOCK: &str = include_str!("../../../Cargo.lock");
const PEERS: [&str; 9] = [
    "aioxide",
    "tokio",
    "hyper",
    "axum",
    "actix-server",
    "actix-web",
    "guarden",
    "async-stream",
    "async-trait",
];

pub(crate) fn description(python: Option<&Python>) -> Result<String> {
    let python = match python {
        Some(python) => python.versions()?,
        None => "without Python".to_owned(),
    };
    let installed = [PUMA, NGINX].into_iter().filter_map(Kind::version);
    let others: Vec<String> = iter::once(python).chain(installed).collect();
    let versions: Vec<String> = PEERS
        .iter()
        .map(|name| {
            format!(
                "{name} {}",
                version(LOCK, name).unwrap_or("of unknown version")
            )
        })
        .collect();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    Ok(format!(
        "{}, {cores} cores, Linux {}; {}; {}; {}.",
        processor(),
        read("/proc/sys/kernel/osrelease").trim(),
        rustc(),
        versions.join(", "),
        others.join(", "),
    ))
}

/// What can't be read isn't worth a comparison's end.
fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_else(|_| "of unknown version".to_owned())
}

fn processor() -> String {
    let info = read("/proc/cpuinfo");
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = line.and_then(|line| line.split_once(':'));
    model
        .map_or("an unknown processor", |(_, model)| model.trim())
        .to_owned()
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "an unknown rustc".to_owned(),
    }
}

/// The version of this package that is locked.
fn version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let heading = format!("name = \"{name}\"\nversion = \"");
    lock.split_once(&heading)?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_peers_are_locked() {
        for name in PEERS {
            let version = version(LOCK, name).unwrap();
            assert!(version.starts_with(|first: char| first.is_ascii_digit()));
        }
        assert_eq!(version(LOCK, "nonesuch"), None);
    }
}
