//! Panics of foreign code that go no further.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `f` gives, or what it panics with.
#[cfg(feature = "scope")]
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(f))
}

/// What a panic said. Its payload is dropped, and leaked if it panics at that.
pub(crate) fn into_text(payload: Box<dyn Any + Send>) -> String {
    let text = text_of(&*payload).map(str::to_owned);
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    text.unwrap_or_else(|| "with a value that is no text".to_owned())
}

pub(crate) fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    match payload.downcast_ref::<&str>() {
        Some(text) => Some(text),
        None => payload.downcast_ref::<String>().map(String::as_str),
    }
}

/// Logs what `event` logs. A subscriber may panic: `tracing_subscriber::fmt` does when it writes to a terminal that
/// has been closed, just when a server is to stop for it.
pub(crate) fn guarded(event: impl FnOnce()) {
    // Nowhere is left to say it.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(event)) {
        into_text(panic);
    }
}
