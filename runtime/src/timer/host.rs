//! A part of a time that the host's name decides on.

use super::schedule::Nanos;

/// Of `[0, whole)`, the part of this host: the same whenever it is asked.
pub(super) fn part_of(whole: Nanos) -> Nanos {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_default();
    part_of_host(name.trim(), whole)
}

fn part_of_host(name: &str, whole: Nanos) -> Nanos {
    // FNV-1a: it stays the same from version to version, and its upper bits depend on all of the name.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Mixed once more, for short names that differ in the last letter.
    let hash = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(hash) * u128::from(whole)) >> 64) as Nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_spread_over_the_whole() {
        let mut tenths = [0; 10];
        for host in 0..1000 {
            let part = part_of_host(&format!("node-{host}"), 10_000);
            assert_eq!(part, part_of_host(&format!("node-{host}"), 10_000));
            tenths[part as usize / 1000] += 1;
        }
        assert!(
            tenths.iter().all(|&hosts| (60..150).contains(&hosts)),
            "{tenths:?}"
        );
    }
}
