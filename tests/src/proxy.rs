//! A network between a client and a server that can be cut.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Forwards connections. While it is cut, connections stay open and can be made, but nothing gets through; what was
/// sent meanwhile arrives afterwards, as with a network that loses packets.
pub struct Proxy {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    /// Ends all of it.
    _runtime: Runtime,
}

impl Proxy {
    /// A proxy in front of `upstream`.
    pub fn start(upstream: SocketAddr) -> Proxy {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (cut, is_cut) = watch::channel(false);
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(forward(near, upstream, is_cut.clone()));
            }
        });
        Proxy {
            address,
            cut,
            _runtime: runtime,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing gets through.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// From now on everything gets through.
    pub fn heal(&self) {
        self.cut.send_replace(false);
    }
}

async fn forward(near: TcpStream, upstream: SocketAddr, mut cut: watch::Receiver<bool>) {
    if cut.wait_for(|cut| !cut).await.is_err() {
        return;
    }
    // A server that is away refuses, and so does its proxy.
    let Ok(far) = TcpStream::connect(upstream).await else {
        return;
    };
    let (near_reader, near_writer) = near.into_split();
    let (far_reader, far_writer) = far.into_split();
    tokio::join!(
        copy(near_reader, far_writer, cut.clone()),
        copy(far_reader, near_writer, cut),
    );
}

async fn copy(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    mut cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = reader.read(&mut buffer).await.unwrap_or(0);
        if cut.wait_for(|cut| !cut).await.is_err() {
            return;
        }
        // The end of one direction is passed on.
        if read == 0 {
            let _ = writer.shutdown().await;
            return;
        }
        if writer.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
