//! The terminal, as it was before once whatever is shown on it has ended.

use std::io;

use ratatui::DefaultTerminal;

/// Shows something on a screen of its own. The terminal is restored afterwards, also by a panic before it is told.
pub(crate) fn with<T>(show: impl FnOnce(&mut DefaultTerminal) -> io::Result<T>) -> io::Result<T> {
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal);
    ratatui::try_restore()?;
    shown
}
