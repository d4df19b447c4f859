//! How far a worker is from the limits that it is recycled for.

use std::time::Duration;

/// How often the memory of workers is looked at.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// A worker's own share of each limit, so that they aren't all due at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wear(f64);

impl Wear {
    /// From nine tenths to the whole, for a number from 0 to 1.
    pub(super) fn spread(by: f64) -> Wear {
        Wear(1.0 - 0.1 * by)
    }

    pub(super) fn of(self, limit: u64) -> u64 {
        (limit as f64 * self.0) as u64
    }
}

/// The resident set of a process, in bytes.
pub(super) fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_up_to_a_tenth_less() {
        assert_eq!(Wear::spread(0.0).of(1000), 1000);
        assert_eq!(Wear::spread(1.0).of(1000), 900);
    }

    #[test]
    fn memory_that_is_written_to_is_resident() {
        const MORE: usize = 64 << 20;
        let before = resident(std::process::id()).unwrap();
        let held = vec![1_u8; MORE];
        let after = resident(std::process::id()).unwrap();
        assert!(
            after >= before + MORE as u64 / 2,
            "{before} {after} {}",
            held.len()
        );
        assert_eq!(resident(u32::MAX), None);
    }
}
