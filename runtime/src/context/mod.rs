//! Async context managers.
