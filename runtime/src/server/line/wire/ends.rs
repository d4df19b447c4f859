//! The two ends of the control socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream as TokioStream;

use super::WireError;
use super::frame::{Attached, Decoder, Dialect, Outbox, Room, WORKERS};
use super::message::{ToSupervisor, ToWorker};

/// The most descriptors that the kernel lets a message carry. With room for all of them, one that doesn't
/// arrive has met the limit of open files.
const MAX_DESCRIPTORS: usize = 253;

/// An end that never blocks: what is sent to it comes when it can.
pub(in crate::server) struct Dialogue {
    socket: TokioStream,
    outbox: Outbox<OwnedFd>,
    inbox: Inbox,
}

impl Dialogue {
    /// Begins with the greeting. Must be called in a runtime.
    pub(in crate::server) fn new(
        socket: UnixStream,
        dialect: &'static Dialect,
    ) -> io::Result<Dialogue> {
        Dialogue::with(socket, dialect, Outbox::new(dialect))
    }

    /// After [`greet`](Self::greet). Must be called in a runtime.
    pub(in crate::server) fn greeted(
        socket: UnixStream,
        dialect: &'static Dialect,
    ) -> io::Result<Dialogue> {
        Dialogue::with(socket, dialect, Outbox::greeted())
    }

    fn with(
        socket: UnixStream,
        dialect: &'static Dialect,
        outbox: Outbox<OwnedFd>,
    ) -> io::Result<Dialogue> {
        socket.set_nonblocking(true)?;
        Ok(Dialogue {
            socket: TokioStream::from_std(socket)?,
            outbox,
            inbox: Inbox::new(dialect),
        })
    }

    /// Sends the greeting and a first message on a socket that nothing has been written to, without a runtime.
    pub(in crate::server) fn greet(
        socket: &UnixStream,
        dialect: &'static Dialect,
        first: &impl Serialize,
    ) -> Result<(), WireError> {
        let mut outbox = Outbox::new(dialect);
        outbox.push(first, None)?;
        flush(&mut outbox, |bytes, descriptor| {
            write(socket, bytes, descriptor)
        })
    }

    /// Sends what can be sent at once; [`next`](Self::next) sees to the rest.
    pub(in crate::server) fn send(
        &mut self,
        message: &impl Serialize,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), WireError> {
        self.outbox.push(message, descriptor)?;
        self.flush()
    }

    /// Waits until there is room for any message. Loses nothing when dropped.
    pub(in crate::server) async fn room(&mut self) -> Result<(), WireError> {
        while !self.outbox.has_room() {
            self.socket.writable().await?;
            let Dialogue { socket, outbox, .. } = &mut *self;
            flush(outbox, |bytes, descriptor| {
                socket.try_io(Interest::WRITABLE, || write(&*socket, bytes, descriptor))
            })?;
        }
        Ok(())
    }

    /// The other side's next message, none once it has closed its end. Also sends what is still to be sent.
    /// Loses nothing when dropped.
    pub(in crate::server) async fn next<M: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(M, Attached<OwnedFd>)>, WireError> {
        loop {
            if let Some(message) = self.inbox.decoder.next()? {
                return Ok(Some(message));
            }
            if self.inbox.closed {
                return Ok(None);
            }
            let interest = match self.outbox.is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            let ready = self.socket.ready(interest).await?;
            let Dialogue {
                socket,
                outbox,
                inbox,
            } = &mut *self;
            if ready.is_writable() {
                flush(outbox, |bytes, descriptor| {
                    socket.try_io(Interest::WRITABLE, || write(&*socket, bytes, descriptor))
                })?;
            }
            if ready.is_readable() {
                ignore_would_block(socket.try_io(Interest::READABLE, || inbox.read(&*socket)))?;
            }
        }
    }

    fn flush(&mut self) -> Result<(), WireError> {
        flush(&mut self.outbox, |bytes, descriptor| {
            write(&self.socket, bytes, descriptor)
        })
    }

    /// Waits until the other side has read so much that at least half of the outbox is free.
    async fn make_room(&mut self) -> Result<(), WireError> {
        while self.outbox.is_half_full() {
            self.socket.writable().await?;
            self.flush()?;
        }
        Ok(())
    }
}

/// The supervisor's end: never blocks.
pub(in crate::server) struct SupervisorEnd(Dialogue);

impl SupervisorEnd {
    /// Must be called in a runtime.
    pub(in crate::server) fn new(socket: UnixStream) -> io::Result<SupervisorEnd> {
        Dialogue::new(socket, &WORKERS).map(SupervisorEnd)
    }

    /// Sends what can be sent at once; [`next`](Self::next) sees to the rest. SIGUSR1 is told once,
    /// however often it comes before the worker reads it.
    pub(in crate::server) fn send(
        &mut self,
        message: &ToWorker,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), WireError> {
        match message {
            ToWorker::Tell => self.0.outbox.push_once(message)?,
            _ => self.0.outbox.push(message, descriptor)?,
        }
        self.0.flush()
    }

    /// Sends the main context's value, after what has been sent so far.
    pub(in crate::server) fn send_main(&mut self, value: Arc<[u8]>) -> Result<(), WireError> {
        self.0.outbox.push_main(value);
        self.0.flush()
    }

    /// The worker's next message, none once it has closed its end. Also sends what is still to be sent.
    /// Loses nothing when dropped.
    ///
    /// A worker that has left many answers unread isn't heard until it has read some: however many requests it makes at
    /// once, their answers find room.
    pub(in crate::server) async fn next(&mut self) -> Result<Option<ToSupervisor>, WireError> {
        self.0.make_room().await?;
        Ok(self.0.next().await?.map(|(message, _)| message))
    }
}

/// The worker's end, for the thread that reads it.
pub(in crate::server) struct WorkerEnd {
    sender: Sender,
    inbox: Inbox,
}

/// What a worker's end has to say.
#[derive(Debug)]
pub(in crate::server) enum Next {
    Message(ToWorker, Attached<OwnedFd>),
    /// The supervisor is gone.
    Closed,
    TimedOut,
}

impl WorkerEnd {
    pub(in crate::server) fn new(socket: OwnedFd) -> io::Result<WorkerEnd> {
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Shared {
            socket,
            wake,
            outbox: Mutex::new(Outbox::new(&WORKERS)),
        };
        Ok(WorkerEnd {
            sender: Sender(Arc::new(shared)),
            inbox: Inbox::new(&WORKERS),
        })
    }

    pub(in crate::server) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Whether the supervisor is gone, whatever it has sent before.
    pub(in crate::server) fn is_closed(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.sender.0.socket, PollFlags::empty())];
        poll(&mut polled, Some(Instant::now()))?;
        Ok(polled[0].revents().contains(PollFlags::HUP))
    }

    /// Waits for the supervisor's next message, until a time at most. Also sends what could not be sent
    /// at once.
    pub(in crate::server) fn next(&mut self, until: Option<Instant>) -> Result<Next, WireError> {
        let Shared { socket, wake, .. } = &*self.sender.0;
        loop {
            if let Some((message, attached)) = self.inbox.decoder.next()? {
                return Ok(Next::Message(message, attached));
            }
            if self.inbox.closed {
                return Ok(Next::Closed);
            }
            let mut wanted = PollFlags::IN;
            if !self.sender.outbox().is_empty() {
                wanted |= PollFlags::OUT;
            }
            let mut polled = [
                PollFd::new(socket, wanted),
                PollFd::new(wake, PollFlags::IN),
            ];
            if !poll(&mut polled, until)? {
                return Ok(Next::TimedOut);
            }
            let [on_socket, on_wake] = polled.map(|fd| fd.revents());
            if !on_wake.is_empty() {
                ignore_would_block(rustix::io::read(wake, &mut [0; 8]).map_err(io::Error::from))?;
            }
            self.sender.flush(&mut self.sender.outbox())?;
            if on_socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                ignore_would_block(self.inbox.read(socket))?;
            }
        }
    }
}

/// Sends to the supervisor, from any thread of a worker.
#[derive(Clone)]
pub(in crate::server) struct Sender(Arc<Shared>);

struct Shared {
    socket: UnixStream,
    /// Tells the reading thread that there is something to be sent.
    wake: OwnedFd,
    outbox: Mutex<Outbox<OwnedFd>>,
}

impl Sender {
    /// Never blocks.
    pub(in crate::server) fn send(&self, message: &ToSupervisor) -> Result<(), WireError> {
        self.send_within(Room::Whole, message)
    }

    /// As [`send`](Self::send), for what the worker's code asks in any number: it leaves room for what the worker has to
    /// say of itself.
    pub(in crate::server) fn ask(&self, message: &ToSupervisor) -> Result<(), WireError> {
        self.send_within(Room::Half, message)
    }

    /// As [`send`](Self::send), however much waits.
    pub(in crate::server) fn send_last(&self, message: &ToSupervisor) -> Result<(), WireError> {
        self.send_within(Room::Beyond, message)
    }

    fn send_within(&self, room: Room, message: &ToSupervisor) -> Result<(), WireError> {
        let mut outbox = self.outbox();
        outbox.push_within(room, message, None)?;
        self.flush(&mut outbox)?;
        if !outbox.is_empty() {
            let told = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes());
            ignore_would_block(told.map_err(io::Error::from))?;
        }
        Ok(())
    }

    /// Waits until all has been sent, or until a time at most: whether it has.
    pub(in crate::server) fn finish(&self, until: Instant) -> Result<bool, WireError> {
        loop {
            let mut outbox = self.outbox();
            self.flush(&mut outbox)?;
            if outbox.is_empty() {
                return Ok(true);
            }
            drop(outbox);
            if !poll(
                &mut [PollFd::new(&self.0.socket, PollFlags::OUT)],
                Some(until),
            )? {
                return Ok(false);
            }
        }
    }

    fn flush(&self, outbox: &mut Outbox<OwnedFd>) -> Result<(), WireError> {
        flush(outbox, |bytes, descriptor| {
            write(&self.0.socket, bytes, descriptor)
        })
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox<OwnedFd>> {
        self.0.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has come in from the other side.
struct Inbox {
    decoder: Decoder<OwnedFd>,
    closed: bool,
    buffer: Box<[u8]>,
}

impl Inbox {
    fn new(dialect: &'static Dialect) -> Inbox {
        Inbox {
            decoder: Decoder::new(dialect),
            closed: false,
            buffer: vec![0; 16 * 1024].into(),
        }
    }

    /// Reads once.
    fn read(&mut self, socket: impl AsFd) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut self.buffer)];
        let received =
            match rustix::net::recvmsg(socket, into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => received,
                // The other side died with something unread; what it wrote has been read.
                Err(Errno::CONNRESET) => {
                    self.closed = true;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => {
                Some(descriptors.map(Attached::Descriptor))
            }
            _ => None,
        });
        let lost = received
            .flags
            .contains(ReturnFlags::CTRUNC)
            .then_some(Attached::Lost);
        self.decoder.push(
            &self.buffer[..received.bytes],
            descriptors.flatten().chain(lost),
        );
        self.closed = received.bytes == 0;
        Ok(())
    }
}

/// Sends as much as `write` takes. When nobody is left to read it, it is dropped; reading says so.
fn flush(
    outbox: &mut Outbox<OwnedFd>,
    mut write: impl FnMut(&[u8], Option<&OwnedFd>) -> io::Result<usize>,
) -> Result<(), WireError> {
    while let Some((bytes, descriptor)) = outbox.front()? {
        match write(bytes, descriptor) {
            Ok(sent) => outbox.advance(sent),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(()),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => outbox.clear(),
                _ => return Err(error.into()),
            },
        }
    }
    Ok(())
}

fn write(socket: impl AsFd, bytes: &[u8], descriptor: Option<&OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor.as_fd()]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    Ok(rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

/// False once it is `until`.
fn poll(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| {
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            })
        });
        match rustix::event::poll(fds, timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn ignore_would_block<T>(result: io::Result<T>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
