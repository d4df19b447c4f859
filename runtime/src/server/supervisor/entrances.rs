//! Where those come in who look into the server, as far as a successor of the supervisor is to have it too.

#[cfg(feature = "process")]
use std::fs;
#[cfg(all(feature = "monitor", feature = "process"))]
use std::io;
use std::os::fd::OwnedFd;
#[cfg(feature = "process")]
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
#[cfg(feature = "monitor")]
use std::sync::Arc;

#[cfg(feature = "monitor")]
use tokio::sync::watch;

/// A listener.
#[derive(Debug)]
pub(crate) struct Entrance {
    #[cfg_attr(
        not(feature = "monitor"),
        expect(dead_code, reason = "open until it is let go of")
    )]
    pub(crate) socket: OwnedFd,
    /// The door's path, or the address of health checks as it was given.
    pub(crate) at: PathBuf,
    /// That of the door's file.
    pub(crate) inode: Option<u64>,
}

/// Those of a server.
#[derive(Debug, Default)]
pub(crate) struct Entrances {
    pub(crate) door: Option<Entrance>,
    pub(crate) health: Option<Entrance>,
}

impl Entrance {
    #[cfg(all(feature = "monitor", feature = "process"))]
    fn duplicate(&self) -> io::Result<Entrance> {
        Ok(Entrance {
            socket: self.socket.try_clone()?,
            at: self.at.clone(),
            inode: self.inode,
        })
    }

    /// Removes its file, if it still is this one's.
    #[cfg(feature = "process")]
    pub(crate) fn remove_file(&self) {
        let found = fs::symlink_metadata(&self.at);
        if self.inode.is_some() && found.ok().map(|found| found.ino()) == self.inode {
            // Whoever has removed it meanwhile has done the same.
            let _ = fs::remove_file(&self.at);
        }
    }
}

#[cfg(all(feature = "monitor", feature = "process"))]
impl Entrances {
    pub(crate) fn duplicate(&self) -> io::Result<Entrances> {
        let duplicate = |entrance: &Option<Entrance>| match entrance {
            Some(entrance) => entrance.duplicate().map(Some),
            None => Ok(None),
        };
        Ok(Entrances {
            door: duplicate(&self.door)?,
            health: duplicate(&self.health)?,
        })
    }
}

/// Whether this process lets in who comes. Copies are one gate.
#[cfg(feature = "monitor")]
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<watch::Sender<State>>);

#[cfg(feature = "monitor")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The predecessor does.
    Waiting,
    Open,
    /// The successor does.
    Left,
}

#[cfg(feature = "monitor")]
impl Gate {
    /// One that is open, or waits for that.
    pub(crate) fn new(waits: bool) -> Gate {
        let state = if waits { State::Waiting } else { State::Open };
        Gate(Arc::new(watch::Sender::new(state)))
    }

    #[cfg_attr(not(feature = "process"), expect(dead_code))]
    pub(crate) fn open(&self) {
        self.0.send_replace(State::Open);
    }

    #[cfg_attr(not(feature = "process"), expect(dead_code))]
    pub(crate) fn leave(&self) {
        self.0.send_replace(State::Left);
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.borrow() == State::Open
    }

    /// Waits until it is open. Cancel-safe.
    pub(crate) async fn opened(&self) {
        // The sender is this gate's.
        let _ = self
            .0
            .subscribe()
            .wait_for(|state| *state != State::Waiting)
            .await;
    }

    /// Waits until it is somebody else's. Cancel-safe.
    pub(crate) async fn left(&self) {
        let _ = self
            .0
            .subscribe()
            .wait_for(|state| *state == State::Left)
            .await;
    }
}
