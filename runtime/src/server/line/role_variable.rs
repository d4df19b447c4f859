//! The environment variable by which a process learns that it was started as a worker.

use std::io;

/// `<supervisor pid>:<inode of the worker's end of the control socket>:<ordinal of the run call>`
pub(crate) const ROLE: &str = "AIOXIDE_WORKER";

/// Its value.
pub(crate) fn role(supervisor: u32, inode: u64, run: usize) -> String {
    format!("{supervisor}:{inode}:{run}")
}

/// Which run call this process is to be a worker of, if any.
pub(crate) fn run_of(role: &str, socket: Option<u64>, parent: u32) -> io::Result<Option<usize>> {
    let mut parts = role.split(':').map(str::parse::<u64>);
    let (Some(Ok(supervisor)), Some(Ok(inode)), Some(Ok(run)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        let text = format!(
            "{ROLE}={role} in the environment: only aioxide sets it, as `<pid>:<inode>:<number>`; did you mean \
             {ROLE}S?"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    if socket == Some(inode) {
        return Ok(Some(run as usize));
    }
    if supervisor == u64::from(parent) {
        let text = "this process was started as a worker, but stdin is no longer the control socket: what runs \
                    before the server must leave stdin alone";
        return Err(io::Error::other(text));
    }
    // Inherited from a worker that has started this process for something else.
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_taken_refused_or_stale() {
        assert_eq!(run_of("10:77:2", Some(77), 10).unwrap(), Some(2));
        assert_eq!(
            run_of("10:77:2", Some(77), 1).unwrap(),
            Some(2),
            "the supervisor may be gone already"
        );
        assert_eq!(run_of("10:77:2", Some(78), 11).unwrap(), None);
        assert_eq!(run_of("10:77:2", None, 11).unwrap(), None);
        let error = run_of("10:77:2", None, 10).unwrap_err();
        assert!(
            error.to_string().contains("no longer the control socket"),
            "{error}"
        );
        for typed in ["4", "", "1:2", "1:2:3:4", "a:b:c"] {
            let error = run_of(typed, Some(77), 10).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("AIOXIDE_WORKER={typed} in")),
                "{error}"
            );
        }
    }
}
