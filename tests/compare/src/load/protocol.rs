//! A request and its answer: 64 bytes that come back, as they are or by HTTP/1.1.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failures::Failure;

pub(super) const MESSAGE: usize = 64;

/// No server of these has a longer one.
const LONGEST_HEAD: usize = 4096;

#[derive(Clone, Copy)]
pub(crate) enum Protocol {
    Bytes,
    /// A GET, which is answered with its query.
    Http,
}

impl Protocol {
    /// Whether the server has closed it meanwhile, which HTTP allows while no request is under way, and clients look for.
    pub(super) fn finds_closed(self, stream: &TcpStream) -> bool {
        match self {
            Protocol::Bytes => false,
            Protocol::Http => !matches!(
                stream.try_read(&mut [0]),
                Err(error) if error.kind() == ErrorKind::WouldBlock
            ),
        }
    }

    /// With a number of its own, so that another's answer is a wrong one. Tells whether the connection may be used again.
    pub(super) async fn ask(self, stream: &mut TcpStream, number: u64) -> Result<bool, Failure> {
        match self {
            Protocol::Bytes => bytes(stream, number).await.map(|()| true),
            Protocol::Http => http(stream, number).await,
        }
    }
}

async fn bytes(stream: &mut TcpStream, number: u64) -> Result<(), Failure> {
    let mut message = [7; MESSAGE];
    message[..8].copy_from_slice(&number.to_le_bytes());
    stream.write_all(&message).await?;
    let mut answer = [0; MESSAGE];
    stream.read_exact(&mut answer).await?;
    match answer == message {
        true => Ok(()),
        false => Err(Failure::WrongBytes),
    }
}

async fn http(stream: &mut TcpStream, number: u64) -> Result<bool, Failure> {
    let message = format!("{number:0MESSAGE$}");
    let request = format!("GET /?{message} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(LONGEST_HEAD);
    let body = loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(Failure::ClosedEarly);
        }
        match answer.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(end) if answer.len() >= end + 4 + MESSAGE => break end + 4,
            None if answer.len() >= LONGEST_HEAD => return Err(Failure::WrongBytes),
            _ => {}
        }
    };
    let (head, body) = answer.split_at_mut(body);
    head.make_ascii_lowercase();
    let close = b"\r\nconnection: close\r\n";
    match head.starts_with(b"http/1.1 200 ") && body == message.as_bytes() {
        true => Ok(!head.windows(close.len()).any(|line| line == close)),
        false => Err(Failure::WrongBytes),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What becomes of request number 7 when it is answered like this, with its message in place of `?`.
    async fn outcome(answer: &str) -> Result<bool, Failure> {
        let message = format!("{:064}", 7);
        let answer = answer.replace('?', &message);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            // In two parts, wherever that is.
            let (first, second) = answer.as_bytes().split_at(answer.len() / 2);
            stream.write_all(first).await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(second).await.unwrap();
            request.truncate(length);
            String::from_utf8(request).unwrap()
        });
        let outcome = Protocol::Http.ask(&mut client, 7).await;
        let request = server.await.unwrap();
        assert!(request.starts_with(&format!("GET /?{message} HTTP/1.1\r\n")));
        outcome
    }

    #[tokio::test]
    async fn an_answer_says_whether_the_connection_stays() {
        let stays = outcome("HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n?").await;
        assert_eq!(stays, Ok(true));
        let closes = "HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 64\r\n\r\n?";
        assert_eq!(outcome(closes).await, Ok(false));
    }

    #[tokio::test]
    async fn anything_else_is_a_failure() {
        let endless = "x".repeat(2 * LONGEST_HEAD);
        for (answer, failure) in [
            ("HTTP/1.1 503 No\r\n\r\n?", Failure::WrongBytes),
            ("HTTP/1.1 200 OK\r\n\r\n?more", Failure::WrongBytes),
            (&endless, Failure::WrongBytes),
            ("HTTP/1.1 200 OK\r\n\r\nhalf", Failure::ClosedEarly),
            ("", Failure::ClosedEarly),
        ] {
            assert_eq!(outcome(answer).await, Err(failure), "{answer}");
        }
    }
}
