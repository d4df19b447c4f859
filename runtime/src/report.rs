//! How errors are told where nobody gets them: in logs, in hooks, in reasons for leaving.

use std::fmt::Display;

/// An error with its chain of causes, where its type tells that when it is asked to: those of anyhow and eyre do.
pub(crate) fn in_full(error: &(impl Display + ?Sized)) -> String {
    format!("{error:#}")
}
