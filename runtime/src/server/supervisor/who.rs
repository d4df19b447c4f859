//! Who a line of the log is about, in its sentence and in its fields.

/// The main context's role, and the name of its thread.
pub(super) const MAIN: &str = "main context";

/// Who a line of the log is about.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub(super) name: String,
    /// `worker`, the name of the extra, or `main context`.
    pub(super) role: String,
    pub(super) worker: Option<usize>,
    pub(super) pid: u32,
}

impl Who {
    pub(super) fn main() -> Who {
        Who {
            name: "the main context".to_owned(),
            role: MAIN.to_owned(),
            worker: None,
            pid: std::process::id(),
        }
    }
}

/// `log!` and `failed!` of a line that is about somebody, with the fields that say who.
macro_rules! about {
    ($who:expr, failure, { $($fields:tt)* }, $($message:tt)+) => {{
        let $crate::server::supervisor::who::Who { role, worker, pid, .. } = &$who;
        report::failed!(
            { worker = *worker, role = role.as_str(), pid = *pid, $($fields)* },
            $($message)+
        );
    }};
    ($who:expr, $level:ident, { $($fields:tt)* }, $($message:tt)+) => {{
        let $crate::server::supervisor::who::Who { role, worker, pid, .. } = &$who;
        report::log!(
            $level,
            { worker = *worker, role = role.as_str(), pid = *pid, $($fields)* },
            $($message)+
        );
    }};
}
pub(super) use about;
