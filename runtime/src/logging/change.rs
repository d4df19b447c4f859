//! Another filter for the log of a running server.

use std::str::FromStr;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};
use tracing_subscriber::reload;

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Set by [`init`](super::init).
static RELOAD: OnceLock<Reload> = OnceLock::new();

/// Of a subscriber that is about to be installed; once it is dropped, the handle says so.
pub(super) fn keep<S: 'static>(handle: reload::Handle<EnvFilter, S>) {
    // The first one is the one that is installed, if any is.
    let _ = RELOAD.set(Box::new(move |filter| handle.reload(filter)));
}

/// What is wrong with a filter, if anything is.
pub(crate) fn check(filter: &str) -> Result<(), String> {
    parse(filter).map(drop)
}

/// From now on this process logs what `filter` says.
pub(crate) fn change(filter: &str) -> Result<(), String> {
    let filter = parse(filter)?;
    let reload = RELOAD
        .get()
        .ok_or("its log is not that of `aioxide::logging::init`")?;
    reload(filter).map_err(|error| error.to_string())
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    // As the filter itself takes them apart.
    let directives = filter.split(',').filter(|directive| !directive.is_empty());
    for directive in directives {
        Directive::from_str(directive)
            .map_err(|error| format!("`{directive}` isn't a directive of a filter: {error}"))?;
    }
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(filter)
        .map_err(|error| format!("`{filter}` is no filter: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directive_that_is_wrong_is_named() {
        for filter in [
            "debug",
            "warn,echo=trace",
            "off",
            "",
            "[request{id=1}]=debug",
        ] {
            assert_eq!(check(filter), Ok(()), "{filter}");
        }
        let error = check("warn,echo=loud,debug").unwrap_err();
        assert!(
            error.starts_with("`echo=loud` isn't a directive of a filter: "),
            "{error}"
        );
    }
}
