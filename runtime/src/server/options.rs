//! Options of a server that are one of a few words, as attributes and command lines spell them.

use std::fmt;
use std::str::FromStr;

/// What a worker of a server is.
///
/// [`FromStr`] and [`Display`](fmt::Display) take and give `thread` and `process`, so that it can be an option of
/// a command line:
///
/// ```
/// use aioxide::Isolation;
///
/// assert_eq!("process".parse(), Ok(Isolation::Process));
/// assert_eq!(Isolation::default().to_string(), "thread");
/// let error = "fork".parse::<Isolation>().unwrap_err();
/// assert_eq!(error.to_string(), "unknown isolation `fork`; allowed are `thread`, `process`");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// A thread of the server's process.
    #[default]
    Thread,
    /// A process of its own: the server's executable, started again.
    Process,
}

/// What happens when a worker fails that was ready: it errs, panics, dies, hangs, or returns
/// unasked. It counts from the moment *this* worker was ready, also while others are still starting.
///
/// [`FromStr`] and [`Display`](fmt::Display) take and give `shutdown`, `restart` and `ignore`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The server stops, with exit code 1.
    #[default]
    Shutdown,
    /// A successor is started after a backoff. One that fails too often stops the server, with exit
    /// code 4.
    Restart,
    /// The others go on without it. When none is left the server stops, with exit code 1.
    Ignore,
}

/// Whether the supervisor itself may be replaced by a new one, which has another pid.
///
/// [`FromStr`] and [`Display`](fmt::Display) take and give `notified` and `new_pid`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// Where a service manager is told of the new pid: `NOTIFY_SOCKET` is set, as systemd does for `Type=notify`.
    #[default]
    Notified,
    /// Also where nobody is told: whoever started the server doesn't wait for its pid.
    NewPid,
}

/// A word that is none of those that an option of a server has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {option} `{given}`; allowed are {allowed}")]
pub struct UnknownChoice {
    given: String,
    option: &'static str,
    allowed: &'static str,
}

macro_rules! words {
    ($type:ident, $option:literal, $allowed:literal, $($word:literal => $variant:ident,)+) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $($type::$variant => $word,)+
                })
            }
        }

        impl FromStr for $type {
            type Err = UnknownChoice;

            fn from_str(word: &str) -> Result<Self, UnknownChoice> {
                match word {
                    $($word => Ok($type::$variant),)+
                    _ => Err(UnknownChoice {
                        given: word.to_owned(),
                        option: $option,
                        allowed: $allowed,
                    }),
                }
            }
        }
    };
}

words!(
    Isolation, "isolation", "`thread`, `process`",
    "thread" => Thread,
    "process" => Process,
);
words!(
    OnFailure, "policy for failures", "`shutdown`, `restart`, `ignore`",
    "shutdown" => Shutdown,
    "restart" => Restart,
    "ignore" => Ignore,
);

words!(
    Upgrade, "kind of upgrade", "`notified`, `new_pid`",
    "notified" => Notified,
    "new_pid" => NewPid,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for isolation in [Isolation::Thread, Isolation::Process] {
            assert_eq!(isolation.to_string().parse(), Ok(isolation));
        }
        for on_failure in [OnFailure::Shutdown, OnFailure::Restart, OnFailure::Ignore] {
            assert_eq!(on_failure.to_string().parse(), Ok(on_failure));
        }
        for upgrade in [Upgrade::Notified, Upgrade::NewPid] {
            assert_eq!(upgrade.to_string().parse(), Ok(upgrade));
        }
        let error = "Restart".parse::<OnFailure>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown policy for failures `Restart`; allowed are `shutdown`, `restart`, `ignore`"
        );
    }
}
