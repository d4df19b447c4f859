//! What Linux tells of processes, and how none is left behind.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// This process and all that descend from it, itself first.
pub(crate) fn family(pid: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc can't be read: Linux is needed")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // One that has ended meanwhile has none.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let parent = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1));
        parents.push((pid, parent.and_then(|parent| parent.parse::<u32>().ok())));
    }
    let mut family = vec![pid];
    let mut seen = 0;
    while let Some(&parent) = family.get(seen) {
        let children = parents.iter().filter(|(_, of)| *of == Some(parent));
        family.extend(children.map(|(child, _)| *child));
        seen += 1;
    }
    Ok(family)
}

/// Ends what descends from this process, and itself if so wished.
pub(crate) fn kill(pid: u32, itself: bool) {
    // Without /proc there was no server either.
    for pid in family(pid)
        .unwrap_or_default()
        .into_iter()
        .skip(usize::from(!itself))
    {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended meanwhile, of itself or with its parent.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// For how long the threads of these processes have run. Exact while they wait; a thread that has ended no longer
/// counts.
pub(crate) fn cpu_nanos(family: &[u32]) -> Result<u64> {
    let mut nanos = 0;
    for pid in family {
        let tasks = format!("/proc/{pid}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("process {pid} has ended"))? {
            // A thread may end between the two.
            let Ok(stat) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let first = stat.split_whitespace().next();
            nanos += first
                .and_then(|first| first.parse::<u64>().ok())
                .with_context(|| format!("{tasks}: no run time in {stat:?}"))?;
        }
    }
    Ok(nanos)
}

/// The figure of this name, in KiB.
pub(crate) fn memory(pid: u32, name: &str) -> Result<f64> {
    let path = Path::new("/proc")
        .join(pid.to_string())
        .join("smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .with_context(|| format!("{}: no {name}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::process::{self, Command, Stdio};

    use super::*;

    #[test]
    fn a_family_has_grandchildren_and_none_is_left() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 600 & echo up; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        std::io::Read::read_exact(&mut stdout, &mut [0; 3]).unwrap();
        assert_eq!(family(child.id()).unwrap().len(), 2);

        kill(child.id(), true);
        child.wait().unwrap();
        // The grandchild held the pipe.
        assert_eq!(std::io::Read::read(&mut stdout, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_process_tells_its_time_and_memory() {
        assert!(cpu_nanos(&[process::id()]).unwrap() > 0);
        assert!(memory(process::id(), "Private_Dirty").unwrap() > 0.0);
        let error = memory(process::id(), "Nonsense").unwrap_err();
        assert!(error.to_string().ends_with("smaps_rollup: no Nonsense"));
    }
}
