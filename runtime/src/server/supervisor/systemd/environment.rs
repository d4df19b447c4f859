//! What systemd has set in the environment of a service.

use std::env;
use std::ffi::OsString;
use std::time::Duration;

/// What is meant for this process alone, and not for the programs that it starts.
#[cfg(feature = "process")]
pub(crate) const OF_THE_SERVICE: [&str; 8] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "FDSTORE",
];

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// Where it is to be told.
    pub(super) socket: Option<OsString>,
    /// How often it wants to hear something.
    pub(super) watchdog: Option<Duration>,
    /// How many descriptors it keeps. Before version 254 it doesn't say.
    pub(super) store: Option<usize>,
}

impl Environment {
    pub(super) fn read(pid: u32) -> Environment {
        Environment::of(pid, |name| env::var_os(name))
    }

    fn of(pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Environment {
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_for_us = match variable("WATCHDOG_PID") {
            Some(_) => number("WATCHDOG_PID") == Some(u64::from(pid)),
            None => true,
        };
        let watchdog = number("WATCHDOG_USEC").filter(|micros| is_for_us && *micros > 0);
        Environment {
            socket: variable("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()),
            watchdog: watchdog.map(Duration::from_micros),
            store: variable("FDSTORE").and_then(|store| store.to_str()?.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Environment {
        Environment::of(7, |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn a_watchdog_of_another_process_is_none_of_ours() {
        let usec = ("WATCHDOG_USEC", "3000000");
        let three = Some(Duration::from_secs(3));
        assert_eq!(of(&[usec]).watchdog, three);
        assert_eq!(of(&[usec, ("WATCHDOG_PID", "7")]).watchdog, three);
        for other in ["8", "", "seven"] {
            assert_eq!(of(&[usec, ("WATCHDOG_PID", other)]).watchdog, None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_set() {
        assert_eq!(of(&[]), Environment::default());
        for usec in ["", "0", "-1", "3s", "99999999999999999999999"] {
            assert_eq!(of(&[("WATCHDOG_USEC", usec)]), Environment::default());
        }
        assert_eq!(of(&[("NOTIFY_SOCKET", "")]), Environment::default());
        assert_eq!(of(&[("FDSTORE", "many")]), Environment::default());
        assert_eq!(of(&[("FDSTORE", "4")]).store, Some(4));
        let socket = of(&[("NOTIFY_SOCKET", "@here")]).socket;
        assert_eq!(socket, Some("@here".into()));
    }
}
