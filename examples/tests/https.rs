//! The https example as a real process, with clients that check its certificate.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

use aioxide_tests::http::{ask, response, says_close};
use aioxide_tests::{PATIENCE, Running, Signal, connect};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Writes a new certificate and its key.
fn certify(folder: &TempDir) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.path().join("cert.pem"), cert.pem()).expect("it can be written");
    fs::write(folder.path().join("key.pem"), signing_key.serialize_pem()).expect("so can this");
    cert.der().clone()
}

fn https(isolation: &str, folder: &TempDir) -> Running {
    Running::start(
        Command::new(env!("CARGO_BIN_EXE_https"))
            .current_dir(folder)
            .args(["--isolation", isolation, "--listen", "127.0.0.1:0"])
            .args(["--workers", "2"])
            .args(["--certificate", "cert.pem", "--key", "key.pem"]),
    )
}

/// A connection on which the handshake is done, if the server has this certificate.
fn open(address: SocketAddr, trusted: &CertificateDer<'static>, protocol: &str) -> Option<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let stream = connect(address);
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    let mut tls = StreamOwned::new(client, stream);
    tls.conn.complete_io(&mut tls.sock).ok()?;
    assert_eq!(tls.conn.alpn_protocol(), Some(protocol.as_bytes()));
    Some(tls)
}

fn hello(tls: &mut Tls) -> String {
    ask(tls, "/");
    let (head, body) = response(tls).expect("it is answered");
    assert_eq!(body, "hello");
    head
}

fn the_certificate_is_read_anew(isolation: &str) {
    let folder = TempDir::new().expect("a folder");
    let first = certify(&folder);
    let mut server = https(isolation, &folder);
    let address = server.wait_until_ready();
    let mut open_before = open(address, &first, "http/1.1").expect("it has the first one");
    hello(&mut open_before);

    let second = certify(&folder);
    server.signal(Signal::USR1);
    (0..2).for_each(|_| _ = server.wait_for("the certificate has been read anew"));
    for _ in 0..8 {
        assert!(
            open(address, &first, "http/1.1").is_none(),
            "not the first any more"
        );
        hello(&mut open(address, &second, "http/1.1").expect("it has the second"));
    }
    hello(&mut open_before);

    fs::write(folder.path().join("cert.pem"), "nothing").expect("it can be written");
    server.signal(Signal::USR1);
    (0..2).for_each(|_| _ = server.wait_for("the certificate stays as it was"));
    hello(&mut open(address, &second, "http/1.1").expect("it has the second"));
    drop(open_before);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors().len(), 2, "{:#?}", ended.log);
}

fn a_roll_loses_no_request(isolation: &str) {
    let folder = TempDir::new().expect("a folder");
    let certificate = certify(&folder);
    let mut server = https(isolation, &folder);
    let address = server.wait_until_ready();
    let mut idle: Vec<Tls> = (0..8)
        .map(|_| {
            let mut tls = open(address, &certificate, "http/1.1").expect("it is accepted");
            assert!(!says_close(&hello(&mut tls)));
            tls
        })
        .collect();
    // Its handshake has yet to begin.
    let mut silent = connect(address);
    server.signal(Signal::HUP);
    // Each worker has a successor once it is answered by one.
    for tls in &mut idle {
        while !says_close(&hello(tls)) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(matches!(tls.read(&mut [0]), Ok(0)), "it is closed in order");
    }
    silent
        .write_all(b"no TLS at all\r\n\r\n")
        .expect("it is still open");
    let _ = silent.read_to_end(&mut Vec::new());
    server.wait_for("rolling restart done");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
}

/// What a client of HTTP/2 begins with, and what it is answered.
fn http2_is_served_to_those_who_ask_for_it(isolation: &str) {
    let folder = TempDir::new().expect("a folder");
    let certificate = certify(&folder);
    let mut server = https(isolation, &folder);
    let address = server.wait_until_ready();
    let mut tls = open(address, &certificate, "h2").expect("it is accepted");
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("the server reads");
    tls.write_all(&settings).expect("the server reads");
    let mut head = [0; 9];
    tls.read_exact(&mut head).expect("the server answers");
    assert_eq!(head[3], 4, "a frame of settings");
    drop(tls);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
}

aioxide_tests::under_both_isolations! {
    the_certificate_is_read_anew,
    a_roll_loses_no_request,
    http2_is_served_to_those_who_ask_for_it,
}
