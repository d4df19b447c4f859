//! Time zones by their names.
//!
//! `aioxide-macros` has this file too, by a link.

use jiff::tz::TimeZone;

use super::expression::Fault;

/// `local`, or an IANA name.
pub(crate) fn zone(name: &str) -> Result<TimeZone, Fault> {
    if name == "local" {
        return Ok(TimeZone::system());
    }
    TimeZone::get(name).map_err(|_| {
        let near = jiff::tz::db()
            .available()
            .map(|known| known.to_string())
            .find(|known| {
                let (known, name) = (known.to_lowercase(), name.to_lowercase());
                let city = known.rsplit('/').next().unwrap_or_default();
                !name.is_empty() && name.rsplit('/').next() == Some(city)
            });
        let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        Fault {
            what: format!("there is no time zone `{name}`"),
            help: format!(
                "{near}a zone is an IANA name such as `Asia/Seoul`, or `UTC`, or `local`"
            ),
        }
    })
}
