//! The environment variable by which a process learns that it was started as a worker.

use std::io;

/// `<supervisor pid>:<inode of the worker's end of the control socket>:<number>:<name>`, the run that the process is to
/// find, and after a semicolon each `<over>:<begun>:<name>`: what has become of the runs of that name.
pub(crate) const ROLE: &str = "AIOXIDE_WORKER";

/// The environment variable by which a process learns that it was started to replace a supervisor:
/// `<the supervisor's pid>:<inode of the process's end of the socket>`.
pub(crate) const SUCCESSOR: &str = "AIOXIDE_SUCCESSOR";

/// Whether `value` was meant for a process with this inode on stdin; otherwise it is inherited from one for which it was.
pub(crate) fn is_successor(value: &str, socket: u64) -> bool {
    let inode = value.split_once(':').map(|(_, inode)| inode.parse());
    inode == Some(Ok(socket))
}

/// A call of `Server::run`: the server's name, and how many of that name were called before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunId {
    pub(crate) name: String,
    pub(crate) number: usize,
}

/// What the variable says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) run: RunId,
    pub(crate) past: Vec<Past>,
}

/// The runs of a name, when a worker was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) name: String,
    /// How many are over, of the first ones: a worker passes these by.
    pub(crate) over: usize,
    pub(crate) begun: usize,
}

impl Role {
    /// Whether this process is to be a worker of this run, the program's n-th.
    pub(crate) fn is_for(&self, run: &RunId, nth: usize) -> bool {
        match self.run.name.is_empty() {
            true => self.run.number == nth,
            false => self.run == *run,
        }
    }

    /// Whether this run was over when the worker was started.
    pub(crate) fn is_over(&self, run: &RunId) -> bool {
        self.past(run).is_some_and(|past| run.number < past.over)
    }

    /// Whether the program had called it by then.
    pub(crate) fn has_begun(&self, run: &RunId) -> bool {
        self.past(run).is_some_and(|past| run.number < past.begun)
    }

    fn past(&self, run: &RunId) -> Option<&Past> {
        self.past.iter().find(|past| past.name == run.name)
    }

    /// The variable's value.
    pub(crate) fn write(&self, supervisor: u32, inode: u64) -> String {
        let mut value = format!(
            "{supervisor}:{inode}:{}:{}",
            self.run.number,
            escape(&self.run.name)
        );
        for Past { name, over, begun } in &self.past {
            value.push_str(&format!(";{over}:{begun}:{}", escape(name)));
        }
        value
    }

    /// The role that `value` gives a process with this inode on stdin, if any.
    pub(crate) fn read(value: &str, socket: Option<u64>, who: Kin) -> io::Result<Option<Role>> {
        let Some((supervisor, inode, role)) = parse(value) else {
            let text = format!(
                "{ROLE}={value} in the environment: only aioxide sets it, as `<pid>:<inode>:<number>:<name>`; did \
                 you mean {ROLE}S?"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        if socket == Some(inode) {
            return Ok(Some(role));
        }
        // Without the last condition a program that a worker has started would be taken for a worker once the
        // supervisor adopts it, as process 1 of a container does.
        if supervisor == who.parent && who.leads_group && !who.leads_session {
            let text = "this process was started as a worker, but stdin is no longer the control socket: what runs \
                        before the server must leave stdin alone";
            return Err(io::Error::other(text));
        }
        // Inherited from a worker that has started this process for something else.
        Ok(None)
    }
}

/// What a process is to others. A worker leads a process group, and no session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kin {
    pub(crate) parent: u32,
    pub(crate) leads_group: bool,
    pub(crate) leads_session: bool,
}

fn parse(value: &str) -> Option<(u32, u64, Role)> {
    let mut runs = value.split(';');
    let mut parts = runs.next()?.splitn(4, ':');
    let supervisor = parts.next()?.parse().ok()?;
    let inode = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    // A supervisor of an older version gives no name; that it is one, the greeting tells.
    let name = parts.next().map_or(Some(String::new()), unescape)?;
    let past = runs.map(|run| {
        let mut parts = run.splitn(3, ':');
        let (over, begun) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let name = unescape(parts.next()?)?;
        Some(Past { name, over, begun })
    });
    let past = past.collect::<Option<_>>()?;
    let run = RunId { name, number };
    Some((supervisor, inode, Role { run, past }))
}

/// Without what separates, and without what an environment can't hold.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        match byte {
            b'%' | b';' | 0..=b' ' | 0x7f.. => escaped.push_str(&format!("%{byte:02x}")),
            plain => escaped.push(char::from(plain)),
        }
    }
    escaped
}

fn unescape(escaped: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const WORKER: Kin = Kin {
        parent: 10,
        leads_group: true,
        leads_session: false,
    };

    fn role(name: &str, number: usize) -> Role {
        Role {
            run: RunId {
                name: name.to_owned(),
                number,
            },
            past: Vec::new(),
        }
    }

    #[test]
    fn a_role_is_taken_refused_or_stale() {
        let of = |socket, who| Role::read("10:77:2:echo::main", socket, who);
        assert_eq!(of(Some(77), WORKER).unwrap(), Some(role("echo::main", 2)));
        let orphan = Kin {
            parent: 1,
            ..WORKER
        };
        assert_eq!(
            of(Some(77), orphan).unwrap(),
            Some(role("echo::main", 2)),
            "the supervisor may be gone already"
        );
        let others = Kin {
            parent: 11,
            ..WORKER
        };
        assert_eq!(of(Some(78), others).unwrap(), None);
        assert_eq!(of(None, others).unwrap(), None);
        let error = of(None, WORKER).unwrap_err().to_string();
        assert!(error.contains("no longer the control socket"), "{error}");
    }

    #[test]
    fn a_successor_is_known_by_its_socket() {
        assert!(is_successor("10:77", 77));
        for stale in ["10:78", "10", "77", "", "10:77:0"] {
            assert!(!is_successor(stale, 77), "{stale}");
        }
    }

    #[test]
    fn a_program_that_the_supervisor_adopts_is_no_worker() {
        let in_a_workers_group = Kin {
            leads_group: false,
            ..WORKER
        };
        let daemon = Kin {
            leads_session: true,
            ..WORKER
        };
        for adopted in [in_a_workers_group, daemon] {
            assert_eq!(Role::read("10:77:0:a", Some(78), adopted).unwrap(), None);
            assert_eq!(Role::read("10:77:0:a", None, adopted).unwrap(), None);
        }
    }

    #[test]
    fn a_worker_is_for_the_run_of_its_name_and_number() {
        let role = role("echo::main", 2);
        let run = |name: &str, number| RunId {
            name: name.to_owned(),
            number,
        };
        for nth in 0..4 {
            assert!(role.is_for(&run("echo::main", 2), nth));
            assert!(!role.is_for(&run("echo::main", 1), nth));
            assert!(!role.is_for(&run("other::main", 2), nth));
        }
    }

    #[test]
    fn without_a_name_the_order_of_the_calls_decides() {
        let role = Role::read("10:77:1", Some(77), WORKER).unwrap().unwrap();
        let run = RunId {
            name: "a".to_owned(),
            number: 0,
        };
        assert!(role.is_for(&run, 1));
        assert!(!role.is_for(&run, 0));
    }

    #[test]
    fn what_somebody_typed_is_refused() {
        for typed in ["4", "", "1:2", "a:b:c:d", "1:2:3:d;", "1:2:3:%"] {
            let error = Role::read(typed, Some(77), WORKER).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("AIOXIDE_WORKER={typed} in")),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            name in any::<String>(),
            number in any::<usize>(),
            past in prop::collection::vec(any::<(String, usize, usize)>(), 0..4),
        ) {
            let past = past.into_iter().map(|(name, over, begun)| Past { name, over, begun });
            let role = Role { run: RunId { name, number }, past: past.collect() };
            let value = role.write(10, 77);
            prop_assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "{value}");
            prop_assert_eq!(Role::read(&value, Some(77), WORKER).unwrap(), Some(role));
        }
    }

    #[test]
    fn those_that_are_over_are_passed_by() {
        let past = vec![Past {
            name: "a".to_owned(),
            over: 1,
            begun: 2,
        }];
        let role = Role {
            past,
            ..role("b", 0)
        };
        let states = |name: &str, number| {
            let run = RunId {
                name: name.to_owned(),
                number,
            };
            (role.is_over(&run), role.has_begun(&run))
        };
        assert_eq!(states("a", 0), (true, true));
        assert_eq!(states("a", 1), (false, true));
        assert_eq!(states("a", 2), (false, false));
        assert_eq!(states("b", 0), (false, false));
    }
}
