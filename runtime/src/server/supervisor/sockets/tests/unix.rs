//! Unix sockets.

use super::*;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

#[test]
fn a_unix_socket_is_shared_private_and_unlinked() {
    let folder = Folder::new("shared");
    let path = folder.0.join("echo.sock");
    let mut sockets = table();
    let a = UnixListener::from(sockets.listen_unix(WorkerId(0), &path, 0o600).unwrap());
    let b = UnixListener::from(sockets.listen_unix(WorkerId(1), &path, 0o600).unwrap());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::read_dir(&folder.0).unwrap().count(),
        1,
        "no temporary name is left"
    );

    let mut client = UnixStream::connect(&path).unwrap();
    drop(a);
    sockets.close(A);
    let (mut accepted, _) = b.accept().unwrap();
    client.write_all(b"x").unwrap();
    accepted.read_exact(&mut [0]).unwrap();

    let mut second = table();
    let error = second.listen_unix(WorkerId(0), &path, 0o600).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("echo.sock"), "{error}");

    assert!(sockets.unlisten(WorkerId(1), path.to_str().unwrap()));
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_may_have_the_longest_path_there_is() {
    let folder = Folder::new("long");
    let length = 107 - folder.0.as_os_str().len() - "//s".len();
    let deep = folder.0.join("x".repeat(length));
    fs::create_dir(&deep).unwrap();
    let path = deep.join("s");
    assert_eq!(path.as_os_str().len(), 107);
    let mut sockets = table();
    let listener = UnixListener::from(sockets.listen_unix(WorkerId(0), &path, 0o600).unwrap());
    let _client = UnixStream::connect(&path).unwrap();
    listener.accept().unwrap();
    drop(sockets);
    assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
}

#[test]
fn a_stale_unix_socket_is_replaced_and_one_of_another_left() {
    let folder = Folder::new("stale");
    let path = folder.0.join("echo.sock");
    drop(UnixListener::bind(&path).unwrap());
    let mut sockets = table();
    let listener = sockets.listen_unix(WorkerId(0), &path, 0o666).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o666
    );
    UnixStream::connect(&path).unwrap();

    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(listener);
    drop(sockets);
    assert!(path.exists());
    drop(other);

    fs::remove_file(&path).unwrap();
    fs::write(&path, "a file").unwrap();
    let error = table().listen_unix(WorkerId(0), &path, 0o600).unwrap_err();
    assert!(
        error.to_string().ends_with("what is there is not a socket"),
        "{error}"
    );
}

/// As two programs would.
#[test]
fn of_two_servers_that_start_at_once_on_a_path_one_is_refused() {
    const ROUNDS: usize = 60;
    let folder = Folder::new("race");
    let path = folder.0.join("echo.sock");
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            // A stale one, which both would replace.
            drop(UnixListener::bind(&path).unwrap());
        }
        let start = std::sync::Barrier::new(4);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let servers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut sockets = table();
                        start.wait();
                        let listener = sockets.listen_unix(WorkerId(0), &path, 0o600);
                        // Until all have tried.
                        start.wait();
                        listener
                            .map(|listener| (sockets, UnixListener::from(listener)))
                            .map_err(|error| error.kind())
                    })
                })
                .collect();
            servers
                .into_iter()
                .map(|server| server.join().unwrap())
                .collect()
        });
        let refused = outcomes.iter().filter(|outcome| match outcome {
            Ok(_) => false,
            Err(kind) => {
                assert_eq!(*kind, io::ErrorKind::AddrInUse, "round {round}");
                true
            }
        });
        assert_eq!(refused.count(), 3, "round {round}");
        UnixStream::connect(&path).unwrap();
        let (_, listener) = outcomes.iter().flatten().next().unwrap();
        listener.accept().unwrap();
        drop(outcomes);
        assert!(!path.exists(), "round {round}");
    }
}
