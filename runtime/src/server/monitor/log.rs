//! The filter of the log of the supervisor's process.

pub(super) use filter::{change, check};

#[cfg(feature = "logging")]
mod filter {
    use crate::logging;
    use crate::server::monitor::reply::Refused;

    pub(in crate::server::monitor) fn check(filter: &str) -> Result<(), Refused> {
        logging::check(filter).map_err(Refused::wrong)
    }

    pub(in crate::server::monitor) fn change(filter: &str) -> Result<(), Refused> {
        logging::change(filter).map_err(|why| Refused::failed(format!("the server: {why}")))
    }
}

#[cfg(not(feature = "logging"))]
mod filter {
    use crate::server::monitor::reply::Refused;

    pub(in crate::server::monitor) fn check(_: &str) -> Result<(), Refused> {
        Err(Refused::failed(
            "the program is built without the feature `logging`",
        ))
    }

    pub(in crate::server::monitor) fn change(_: &str) -> Result<(), Refused> {
        Ok(())
    }
}
