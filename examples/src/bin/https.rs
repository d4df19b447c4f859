//! HTTPS: TLS before HTTP, with a certificate that is read anew at SIGUSR1. HTTP/2 and HTTP/1.1, as the client likes.
//!
//! ```text
//! cargo run --release -p aioxide-examples --features https --bin https -- --certificate cert.pem --key key.pem
//! ```
//!
//! `kill -USR1` once the files have changed: new connections get the new certificate, those that are open keep theirs. A rolling
//! restart, `kill -HUP`, loses no request.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aioxide::http::Http;
use aioxide::{Isolation, Worker, server};
use axum::Router;
use axum::routing::get;
use clap::Parser;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{error, info};

/// How long a client may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Answers HTTPS requests.
#[derive(Clone, Parser)]
struct Options {
    /// Where to listen: an address or a host name, with a port; port 0 picks a free one.
    #[arg(long, short, default_value = "127.0.0.1:8443")]
    listen: String,
    /// The certificate and those that it was signed with, as PEM.
    #[arg(long)]
    certificate: PathBuf,
    /// Its private key, as PEM.
    #[arg(long)]
    key: PathBuf,
    /// How many workers.
    #[arg(long, short, default_value_t = 4)]
    workers: usize,
    /// What a worker is: `thread` or `process`.
    #[arg(long, default_value_t)]
    isolation: Isolation,
}

fn read_certificate(options: &Options) -> io::Result<TlsAcceptor> {
    let certificates = CertificateDer::pem_file_iter(&options.certificate);
    let certificates = certificates.and_then(|all| all.collect::<Result<Vec<_>, _>>());
    let certificates = certificates.map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&options.key).map_err(io::Error::other)?;
    let config = ServerConfig::builder().with_no_client_auth();
    let mut config = config
        .with_single_cert(certificates, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[server(workers = options.workers)]
async fn https(worker: Worker, options: Options) -> io::Result<()> {
    let http = Http::new(Router::new().route("/", get(|| async { "hello" })));
    let acceptor = Rc::new(RefCell::new(read_certificate(&options)?));
    let listener = worker.listen(options.listen.as_str()).await?;
    let serving = worker.serve(listener, {
        let (worker, acceptor) = (worker.clone(), Rc::clone(&acceptor));
        move |stream: TcpStream| {
            let (worker, http) = (worker.clone(), http.clone());
            let acceptor = acceptor.borrow().clone();
            async move {
                // A client that goes away in its handshake is nothing for the log.
                let Ok(peer) = stream.peer_addr() else {
                    return Ok(());
                };
                match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => http.peer(peer).connection(stream, &worker).await,
                    Ok(Err(_)) | Err(_) => Ok(()),
                }
            }
        }
    });
    let mut reloads = worker.reloads();
    tokio::task::spawn_local(async move {
        while let Some(()) = reloads.recv().await {
            match read_certificate(&options) {
                Ok(read) => {
                    *acceptor.borrow_mut() = read;
                    info!("the certificate has been read anew");
                }
                Err(error) => error!(%error, "the certificate stays as it was"),
            }
        }
    });
    let stop = yield_().await;
    serving.drain(&stop).await;
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    let isolation = options.isolation;
    aioxide::logging::init();
    https(options).isolation(isolation).run()
}
