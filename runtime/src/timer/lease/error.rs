//! Why a lease could not be held, recorded or released.

use std::error::Error;
use std::fmt;

use super::types::Token;

/// Why a [`Lease`](super::Lease) could not be held, or was not written.
#[derive(Debug)]
#[non_exhaustive]
pub enum LeaseError {
    /// Another holder has taken the lease since this token was given out.
    Stale {
        /// The lease.
        name: String,
        /// The token that is no longer the newest.
        token: Token,
    },
    /// The store can't be reached, or failed, or refused. What was asked for may have been done or not.
    Store {
        /// What was to be done.
        action: String,
        /// What went wrong.
        error: Box<dyn Error + Send + Sync>,
    },
}

impl LeaseError {
    /// `token` is no longer the newest of the lease `name`.
    pub fn stale(name: impl Into<String>, token: Token) -> LeaseError {
        LeaseError::Stale {
            name: name.into(),
            token,
        }
    }

    /// The store failed. `action` is what was to be done, "renew lease `report`" for example.
    pub fn store(
        action: impl Into<String>,
        error: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> LeaseError {
        LeaseError::Store {
            action: action.into(),
            error: error.into(),
        }
    }

    /// Whether another holder has taken the lease since: asking again with the same token is in vain.
    pub fn is_stale(&self) -> bool {
        matches!(self, LeaseError::Stale { .. })
    }
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeaseError::Stale { name, token } => write!(
                f,
                "token {token} of lease `{name}` is not the newest: another holder has taken the lease"
            ),
            LeaseError::Store { action, error } => {
                // Clients of databases tell what happened in their error's sources only.
                let mut text = error.to_string();
                let mut source = error.source();
                while let Some(cause) = source {
                    let cause_text = cause.to_string();
                    if !text.contains(&cause_text) {
                        text.push_str(": ");
                        text.push_str(&cause_text);
                    }
                    source = cause.source();
                }
                write!(f, "cannot {action}: {text}")
            }
        }
    }
}

/// Its text has the whole chain of causes, so there is no `source`.
impl Error for LeaseError {}
