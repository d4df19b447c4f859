//! Who a worker is.

use crate::server::{Isolation, Stop};

/// What a worker is for. Extras are workers without an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "process", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Role {
    /// A worker of this index.
    Slot(usize),
    /// The extra at this position of the option.
    Extra(usize),
}

impl Role {
    /// `None` for an extra.
    pub(crate) fn index(self) -> Option<usize> {
        match self {
            Role::Slot(index) => Some(index),
            Role::Extra(_) => None,
        }
    }
}

/// Who a worker is, as its own code sees it.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// `None` for an extra, and for the main context.
    pub(crate) index: Option<usize>,
    /// `worker 3`, or the name of the extra.
    pub(crate) name: String,
    /// What `ps` and `top` call its thread or process.
    pub(crate) comm: String,
    pub(crate) count: usize,
    pub(crate) generation: u64,
    pub(crate) isolation: Isolation,
    /// Given by yields at once, when the workers run to their own end.
    pub(crate) to_completion: Option<Stop>,
    /// How many connections may be open at once.
    pub(crate) max_connections: Option<usize>,
}

impl Identity {
    /// `worker`, or the name of the extra: a field of the log.
    pub(crate) fn role(&self) -> &str {
        match self.index {
            Some(_) => "worker",
            None => &self.name,
        }
    }
}

/// The most bytes that the kernel keeps of a thread's name.
const COMM: usize = 15;

/// What `ps` and `top` are to call the thread or process of a worker: `echo/2`, an extra's `echo/metrics`. The end of it
/// tells the most, so the server's name is what is cut.
pub(crate) fn comm(server: &str, role: Role, name: &str) -> String {
    let who = match role {
        Role::Slot(index) => format!("/{index}"),
        Role::Extra(_) => format!("/{}", clipped(name, 8)),
    };
    format!("{}{who}", clipped(server, COMM - who.len()))
}

fn clipped(text: &str, length: usize) -> &str {
    let end = (0..=length).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(role: Role, name: &str) -> Identity {
        Identity {
            index: role.index(),
            name: name.to_owned(),
            comm: comm("echo", role, name),
            count: 4,
            generation: 1,
            isolation: Isolation::Thread,
            to_completion: None,
            max_connections: None,
        }
    }

    #[test]
    fn a_worker_has_an_index_and_an_extra_its_name() {
        for index in [0, 1, 7] {
            let worker = identity(Role::Slot(index), &format!("worker {index}"));
            assert_eq!((worker.index, worker.role()), (Some(index), "worker"));
        }
        let extra = identity(Role::Extra(1), "metrics");
        assert_eq!((extra.index, extra.role()), (None, "metrics"));
    }

    #[test]
    fn a_thread_is_named_by_server_and_role() {
        assert_eq!(comm("echo", Role::Slot(2), "worker 2"), "echo/2");
        assert_eq!(comm("echo", Role::Extra(0), "metrics"), "echo/metrics");
        assert_eq!(
            comm("a-long-server-name", Role::Slot(1023), ""),
            "a-long-ser/1023"
        );
        assert_eq!(comm("übergröße-überall", Role::Slot(0), ""), "übergröße-/0");
        assert_eq!(
            comm("server", Role::Extra(1), "exporter-of-figures"),
            "server/exporter"
        );
    }
}
