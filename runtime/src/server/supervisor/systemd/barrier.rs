//! How it is known that systemd has dealt with what it was told: `BARRIER=1`.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::socket::NotifySocket;

/// How long systemd is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The end of a pipe whose other end systemd closes.
#[derive(Debug)]
pub(in crate::server::supervisor) struct Barrier(pipe::Receiver);

/// Must be called in a runtime.
pub(super) fn send(socket: &NotifySocket) -> io::Result<Barrier> {
    let (theirs, ours) = pipe::pipe()?;
    socket.send(b"BARRIER=1", Some(theirs.as_fd()))?;
    Ok(Barrier(ours))
}

impl Barrier {
    /// Waits until systemd has dealt with everything that it was told before the barrier: whether it has within a second.
    /// Dropped, it waits no more.
    pub(in crate::server::supervisor) async fn passed(self) -> bool {
        let closed = async {
            loop {
                self.0.readable().await?;
                match self.0.try_read(&mut [0; 8]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // Nobody writes: it is the end.
                    read => return read.map(drop),
                }
            }
        };
        matches!(timeout(PATIENCE, closed).await, Ok(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::IoSliceMut;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    fn receive(socket: &UnixDatagram) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut buffer = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(socket, into, &mut control, flags).unwrap();
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors = descriptors.flatten().collect();
        (buffer[..received.bytes].to_vec(), descriptors)
    }

    #[tokio::test]
    async fn it_is_passed_when_the_descriptor_is_closed_and_not_before() {
        let path = std::env::temp_dir().join(format!("aioxide-barrier-{}", std::process::id()));
        let there = UnixDatagram::bind(&path).unwrap();
        let socket = NotifySocket::new(path.as_os_str()).unwrap();
        let barrier = send(&socket).unwrap();
        let (text, descriptors) = receive(&there);
        assert_eq!((text.as_slice(), descriptors.len()), (&b"BARRIER=1"[..], 1));
        let (passed, ()) = tokio::join!(barrier.passed(), async {
            tokio::task::yield_now().await;
            drop(descriptors);
        });
        assert!(passed);

        let ignored = send(&socket).unwrap();
        tokio::time::pause();
        assert!(!ignored.passed().await);
        std::fs::remove_file(&path).unwrap();
        drop(there);
        assert!(send(&socket).is_err());
    }
}
