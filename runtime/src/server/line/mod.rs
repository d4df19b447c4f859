//! What a worker and its supervisor say to each other. It knows neither of the two.

pub(super) mod link;
#[cfg(feature = "process")]
pub(super) mod wire;
