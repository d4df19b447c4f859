//! Periodic tasks on a grid.
