//! Lets the operator in, and finds out how he wants to talk.

use std::io;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::clients::{Client, Clients, REQUEST};
use super::desk::{Asker, Desk};
use super::{http, lines};
use crate::server::report;
use crate::server::supervisor::Gate;

/// Who says nothing for this long is greeted.
const SILENCE: Duration = Duration::from_millis(300);
/// What follows when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// How a client talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Http,
    Lines,
}

/// While the gate is open.
pub(super) async fn serve(
    listener: UnixListener,
    gate: Gate,
    desk: Rc<Desk>,
    clients: Rc<Clients>,
) {
    gate.opened().await;
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            report::log!(warn, %error, "monitor: the door can't be opened: {error}");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = gate.left() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (desk, clients) = (Rc::clone(&desk), Rc::clone(&clients));
                tokio::task::spawn_local(let_in(stream, desk, clients));
            }
            Err(error) => {
                report::log!(debug, %error, "monitor: a client can't be let in");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn let_in(stream: UnixStream, desk: Rc<Desk>, clients: Rc<Clients>) {
    let asker = match stream.peer_cred() {
        Ok(peer) => Asker {
            uid: peer.uid(),
            pid: peer.pid(),
        },
        Err(error) => {
            report::log!(warn, %error, "monitor: a client that isn't known is sent away");
            return;
        }
    };
    if !may_enter(asker.uid, rustix::process::geteuid().as_raw()) {
        let Asker { uid, pid } = asker;
        report::log!(warn, uid, pid, "monitor: uid {uid} is sent away");
        return;
    }
    let Some(client) = clients.admit() else {
        refuse(&stream, "error: there are too many clients\n");
        return;
    };
    let client = Rc::new(client);
    let talking = meet(stream, desk, asker, Rc::clone(&client));
    tokio::select! {
        biased;
        () = client.sent_away() => {}
        ended = talking => if let Err(error) = ended {
            report::log!(debug, %error, "monitor: a client is gone");
        }
    }
}

/// As much as goes at once.
fn refuse(stream: &UnixStream, why: &str) {
    let _ = stream.try_write(why.as_bytes());
}

/// The server's own user and root.
fn may_enter(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

async fn meet(
    mut stream: UnixStream,
    desk: Rc<Desk>,
    asker: Asker,
    client: Rc<Client>,
) -> io::Result<()> {
    let mut begin = Vec::new();
    match timeout(SILENCE, stream.read_buf(&mut begin)).await {
        Err(_) => return lines::greet_and_talk(stream, desk, asker, &client).await,
        Ok(Ok(0)) => return Ok(()),
        Ok(read) => drop(read?),
    }
    client.waited_for();
    let decided = async {
        loop {
            if let Some(way) = way(&begin) {
                return Ok(way);
            }
            if stream.read_buf(&mut begin).await? == 0 {
                return Ok::<_, io::Error>(Way::Lines);
            }
        }
    };
    match timeout(REQUEST, decided).await?? {
        Way::Lines => lines::talk(stream, begin, desk, asker, &client).await,
        Way::Http => http::serve_operator(stream, begin, desk, asker, client).await,
    }
}

/// A method, a blank and a `/` are HTTP. `None` while that can't be said.
fn way(begin: &[u8]) -> Option<Way> {
    /// The longest method is `OPTIONS`.
    const METHOD: usize = 7;
    let letters = begin.iter().take_while(|byte| byte.is_ascii_uppercase());
    let letters = letters.count();
    match begin.get(letters..) {
        Some([]) if letters <= METHOD => None,
        Some([b' ']) if (1..=METHOD).contains(&letters) => None,
        Some([b' ', b'/', ..]) if (1..=METHOD).contains(&letters) => Some(Way::Http),
        _ => Some(Way::Lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide() {
        let all: [(&str, Option<Way>); 9] = [
            ("", None),
            ("GE", None),
            ("GET ", None),
            ("GET /workers", Some(Way::Http)),
            ("OPTIONS /", Some(Way::Http)),
            ("PROPFIND /", Some(Way::Lines)),
            ("workers\n", Some(Way::Lines)),
            (" /", Some(Way::Lines)),
            ("GET it", Some(Way::Lines)),
        ];
        for (begin, decided) in all {
            assert_eq!(way(begin.as_bytes()), decided, "{begin}");
        }
    }

    #[test]
    fn only_the_same_user_and_root_may_enter() {
        assert!(may_enter(1000, 1000) && may_enter(0, 1000) && may_enter(0, 0));
        assert!(!may_enter(1001, 1000) && !may_enter(1000, 0));
    }
}
