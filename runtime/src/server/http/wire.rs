//! What goes over a connection, as far as it tells what that is doing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Enough for most requests' heads, so that to look at the first bytes takes no further read.
const FIRST_READ: usize = 1024;
/// What is written in one piece at most if it comes in several: the head of a response and a short body for example. To copy
/// them takes less than the kernel's way for several pieces, `writev`, takes longer than that for one.
const ONE_PIECE: usize = 1024;

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing: no request has begun.
    Idle,
    /// A request's head has begun.
    Head,
    /// A request is handled, or its response written.
    Busy,
}

/// What a connection's IO, its requests and the one who closes it know in common. Its IO may be on its way to another
/// thread, once it is upgraded.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// How many requests are handled or answered.
    in_flight: AtomicUsize,
    /// How many there have been.
    requests: AtomicUsize,
    /// Something was read since the last one began, and none is in flight.
    reading: AtomicBool,
    /// The client doesn't take what is written.
    writing: AtomicBool,
    /// Frames are no heads of requests.
    framed: AtomicBool,
    /// A stream of HTTP/2 has become something else, of which nothing is known.
    tunnel: AtomicBool,
    /// The IO has been dropped, and who waits for that.
    gone: AtomicBool,
    left: AtomicWaker,
    /// Its time is over. Before, nobody is woken who reads or writes.
    cut: AtomicBool,
    upgraded: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wire {
    pub(super) fn phase(&self) -> Phase {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        if self.in_flight.load(Ordering::Relaxed) > 0 || is(&self.writing) || is(&self.tunnel) {
            Phase::Busy
        } else if is(&self.reading) && !is(&self.framed) {
            Phase::Head
        } else {
            Phase::Idle
        }
    }

    /// How many requests there have been.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn request_began(&self) {
        self.reading.store(false, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn request_ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn is_framed(&self) {
        self.framed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_tunnel(&self) {
        self.tunnel.store(true, Ordering::Relaxed);
    }

    /// Its IO is about to be somebody else's.
    pub(super) fn is_upgraded(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// Waits until the IO has been dropped.
    pub(super) async fn gone(&self) {
        std::future::poll_fn(|cx| {
            self.left.register(cx.waker());
            match self.gone.load(Ordering::Acquire) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Has whoever has the IO fail.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    fn check(&self, waker: &AtomicWaker, cx: &Context<'_>) -> io::Result<()> {
        if !self.upgraded.load(Ordering::Relaxed) {
            return Ok(());
        }
        waker.register(cx.waker());
        match self.cut.load(Ordering::Acquire) {
            true => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection was cut at the deadline of its worker's stop",
            )),
            false => Ok(()),
        }
    }
}

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A connection's IO, watched.
#[derive(Debug)]
pub(super) struct Watched<I> {
    io: I,
    wire: Arc<Wire>,
    /// What was read to find out the protocol, as far as it hasn't been read again.
    first: Vec<u8>,
    at: usize,
}

impl<I> Watched<I> {
    pub(super) fn new(io: I, wire: Arc<Wire>) -> Watched<I> {
        Watched {
            io,
            wire,
            first: Vec::new(),
            at: 0,
        }
    }
}

impl<I: AsyncRead + Unpin> Watched<I> {
    /// Reads until it is clear which protocol the client speaks; none if it has gone without a word. Cancel-safe.
    pub(super) fn poll_protocol(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Protocol>>> {
        loop {
            if let Some(protocol) = protocol(&self.first) {
                return Poll::Ready(Ok(Some(protocol)));
            }
            let mut buffer = [0; FIRST_READ];
            let mut buffer = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                // What it is that ends there is HTTP/1's to say.
                let cut_short = (!self.first.is_empty()).then_some(Protocol::Http1);
                return Poll::Ready(Ok(cut_short));
            }
            self.first.extend_from_slice(buffer.filled());
            self.wire.reading.store(true, Ordering::Relaxed);
        }
    }
}

fn protocol(first: &[u8]) -> Option<Protocol> {
    if first.starts_with(PREFACE) {
        Some(Protocol::Http2)
    } else if PREFACE.starts_with(first) {
        None
    } else {
        Some(Protocol::Http1)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wire.check(&this.wire.reader, cx)?;
        let before = buffer.filled().len();
        if this.at < this.first.len() {
            let rest = &this.first[this.at..];
            let taken = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..taken]);
            this.at += taken;
            if this.at == this.first.len() {
                (this.first, this.at) = (Vec::new(), 0);
            }
        } else {
            ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
        }
        if buffer.filled().len() > before && this.wire.in_flight.load(Ordering::Relaxed) == 0 {
            this.wire.reading.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> Watched<I> {
    fn poll_write_with<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut I>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        this.wire.check(&this.wire.writer, cx)?;
        let written = write(Pin::new(&mut this.io), cx);
        if written.is_pending() {
            this.wire.writing.store(true, Ordering::Relaxed);
        }
        written
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |io, cx| io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = bytes.iter().map(|piece| piece.len()).sum();
        self.poll_write_with(cx, |io, cx| {
            if bytes.len() == 1 || length > ONE_PIECE {
                return io.poll_write_vectored(cx, bytes);
            }
            let mut buffer = [0; ONE_PIECE];
            let mut at = 0;
            for piece in bytes {
                buffer[at..][..piece.len()].copy_from_slice(piece);
                at += piece.len();
            }
            io.poll_write(cx, &buffer[..at])
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wire.check(&this.wire.writer, cx)?;
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        let writing = flushed.is_pending();
        this.wire.writing.store(writing, Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl<I> Drop for Watched<I> {
    fn drop(&mut self) {
        self.wire.gone.store(true, Ordering::Release);
        self.wire.left.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn spoken(parts: &[&[u8]]) -> (Option<Protocol>, Vec<u8>) {
        let (mut client, io) = tokio::io::duplex(4096);
        let mut io = Watched::new(io, Arc::default());
        let speak = async {
            for part in parts {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let hear = async {
            let protocol = poll_fn(|cx| io.poll_protocol(cx)).await.unwrap();
            let mut heard = Vec::new();
            io.read_to_end(&mut heard).await.unwrap();
            (protocol, heard)
        };
        tokio::join!(speak, hear).1
    }

    #[tokio::test]
    async fn the_first_bytes_tell_the_protocol_and_are_read_again() {
        let one = Some(Protocol::Http1);
        let two = Some(Protocol::Http2);
        for (protocol, parts) in [
            (None, &[][..]),
            (one, &[&b"GET / HTTP/1.1\r\n\r\n"[..]]),
            (one, &[b"P", b"OST / HTTP/1.1\r\n\r\n"]),
            (one, &[b"PRI * HTTP/1.1\r\n\r\n"]),
            (one, &[b"PRI * HT"]),
            (two, &[PREFACE]),
            (two, &[b"PRI * HTTP/2", &PREFACE[12..], b"frames"]),
            (one, &[&[b'x'; 3000]]),
        ] {
            let expected = (protocol, parts.concat());
            assert_eq!(spoken(parts).await, expected);
        }
    }

    #[tokio::test]
    async fn what_is_read_and_written_tells_what_the_connection_does() {
        let (mut client, io) = tokio::io::duplex(8);
        let wire = Arc::new(Wire::default());
        let mut io = Watched::new(io, Arc::clone(&wire));
        assert_eq!(wire.phase(), Phase::Idle);
        client.write_all(b"GET").await.unwrap();
        assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 3);
        assert_eq!(wire.phase(), Phase::Head);
        wire.request_began();
        assert_eq!(wire.phase(), Phase::Busy);
        client.write_all(b"body").await.unwrap();
        assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 4);
        {
            let answer = io.write_all(b"a long answer");
            tokio::pin!(answer);
            assert!(futures_util::poll!(&mut answer).is_pending());
            wire.request_ended();
            assert_eq!(wire.phase(), Phase::Busy, "there is something to write");
            client.read_exact(&mut [0; 8]).await.unwrap();
            answer.await.unwrap();
        }
        io.flush().await.unwrap();
        assert_eq!(wire.phase(), Phase::Idle);
    }

    /// Notes in how many pieces it was written to, and what.
    #[derive(Default)]
    struct Noted(Vec<(usize, Vec<u8>)>);

    impl AsyncWrite for Noted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push((1, bytes.to_vec()));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bytes.iter().flat_map(|piece| piece.to_vec()).collect();
            let length = all.len();
            self.0.push((bytes.len(), all));
            Poll::Ready(Ok(length))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_short_is_written_in_one_piece() {
        let long = [b'x'; ONE_PIECE];
        for (pieces, written) in [
            (&[&b"head"[..], b"", b"body"][..], 1),
            (&[&b"head"[..]], 1),
            (&[&long[..]], 1),
            (&[&long[4..], b"body"], 1),
            (&[b"head", &long[..]], 2),
        ] {
            let mut io = Watched::new(Noted::default(), Arc::default());
            let slices: Vec<_> = pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
            let all = pieces.concat();
            assert_eq!(io.write_vectored(&slices).await.unwrap(), all.len());
            assert_eq!(io.io.0, [(written, all)]);
        }
    }

    #[tokio::test]
    async fn who_has_an_upgraded_connection_fails_when_it_is_cut() {
        let (_client, io) = tokio::io::duplex(8);
        let wire = Arc::new(Wire::default());
        let mut io = Watched::new(io, Arc::clone(&wire));
        wire.is_upgraded();
        let using = tokio::spawn(async move { io.read(&mut [0]).await });
        tokio::task::yield_now().await;
        {
            let gone = wire.gone();
            tokio::pin!(gone);
            assert!(futures_util::poll!(&mut gone).is_pending());
        }
        wire.cut();
        let error = using.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        wire.gone().await;
    }
}
