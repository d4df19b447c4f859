//! The websocket example as a real process, with a real client.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use aioxide_tests::{PATIENCE, Running, Signal, connect};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

type Socket = WebSocket<TcpStream>;

fn open(address: SocketAddr) -> Socket {
    let stream = connect(address);
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    let (socket, _) = client(format!("ws://{address}/"), stream).expect("it is upgraded");
    socket
}

fn echo(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).expect("the server reads");
    let answer = socket.read().expect("the server answers");
    assert_eq!(answer, Message::text(text));
}

/// Waits for the goodbye, which is answered by itself, and for the end.
fn goodbye(socket: &mut Socket) -> String {
    let close = match socket.read() {
        Ok(Message::Close(Some(close))) => close,
        other => panic!("no goodbye: {other:?}"),
    };
    assert_eq!(close.code, CloseCode::Away);
    assert!(socket.read().is_err(), "it is closed");
    close.reason.to_string()
}

#[test]
fn clients_are_told_of_a_stop_and_connect_anew() {
    let mut server = Running::start(Command::new(env!("CARGO_BIN_EXE_websocket")).args([
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "2",
    ]));
    let address = server.wait_until_ready();
    let mut sockets: Vec<Socket> = (0..8).map(|_| open(address)).collect();
    sockets.iter_mut().for_each(|socket| echo(socket, "hello"));
    server.signal(Signal::HUP);
    for socket in &mut sockets {
        assert_eq!(goodbye(socket), "rolling restart");
        *socket = open(address);
        echo(socket, "again");
    }
    server.wait_for("rolling restart done");
    server.signal(Signal::TERM);
    for socket in &mut sockets {
        assert_eq!(goodbye(socket), "SIGTERM");
    }
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
}

/// One that never answers the goodbye holds the stop up for a few seconds at most.
#[test]
fn a_client_that_is_silent_is_not_waited_for() {
    let mut server = Running::start(Command::new(env!("CARGO_BIN_EXE_websocket")).args([
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "1",
    ]));
    let address = server.wait_until_ready();
    let mut silent = open(address);
    echo(&mut silent, "hello");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
}
