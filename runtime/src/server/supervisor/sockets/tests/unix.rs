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

#[test]
fn a_full_backlog_is_no_sign_of_death() {
    let folder = Folder::new("full");
    let path = folder.0.join("echo.sock");
    let other = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&other, 0).unwrap();
    let address = rustix::net::SocketAddrUnix::new(&path).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = super::super::calls::socket(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
        )
        .unwrap();
        match rustix::net::connect(&client, &address) {
            Ok(()) => waiting.push(client),
            Err(error) => {
                assert_eq!(error, rustix::io::Errno::AGAIN);
                break;
            }
        }
    }
    let error = table().listen_unix(WorkerId(0), &path, 0o600).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    UnixListener::accept(&other).unwrap();
    assert!(path.exists());
}

/// Who owns the folder may put a link to something of ours where the socket is being made.
#[test]
fn permissions_are_set_on_the_socket_alone() {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::AtomicBool;

    let folder = Folder::new("hostile");
    let (victim, empty) = (Folder::new("victim"), Folder::new("empty"));
    let file = victim.0.join("s");
    fs::write(&file, "secret").unwrap();
    let modes = || [&victim.0, &file].map(|path| fs::metadata(path).unwrap().permissions().mode());
    for path in [&victim.0, &file] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let before = modes();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if done.load(Relaxed) {
                    return;
                }
                for entry in fs::read_dir(&folder.0).unwrap().flatten() {
                    let name = entry.file_name();
                    if name.to_string_lossy().starts_with('.') {
                        let away = folder.0.join(format!("{number}"));
                        if fs::rename(entry.path(), away).is_ok() {
                            let target = if number % 2 == 0 { &victim } else { &empty };
                            let _ = symlink(&target.0, entry.path());
                        }
                    }
                }
            }
        });
        for number in 0..500 {
            let path = folder.0.join(format!("{number}.sock"));
            // It may fail, but never do harm.
            let _ = table().listen_unix(WorkerId(0), &path, 0o666);
        }
        done.store(true, Relaxed);
    });
    assert_eq!(modes(), before);
    assert_eq!(fs::read_dir(&victim.0).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&empty.0).unwrap().count(), 0);
}

#[test]
fn an_abstract_name_belongs_to_one_server() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let name = format!("aioxide-test-{}", std::process::id());
    let written = format!("@{name}");
    let client = || UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).unwrap());
    let mut sockets = table();
    let listener = sockets
        .listen_unix(WorkerId(0), written.as_ref(), 0o600)
        .unwrap();
    let again = sockets
        .listen_unix(WorkerId(1), written.as_ref(), 0o600)
        .unwrap();
    client().unwrap();
    let error = table()
        .listen_unix(WorkerId(0), written.as_ref(), 0o600)
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&written), "{error}");
    drop((listener, again, sockets));
    assert!(client().is_err());
}

#[test]
fn errors_name_the_path() {
    let folder = Folder::new("gone");
    let error = |path: PathBuf| {
        let error = table().listen_unix(WorkerId(0), &path, 0o600).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot listen on {}: ", path.display())),
            "{text}"
        );
        error.kind()
    };
    assert_eq!(
        error(folder.0.join("no").join("s")),
        io::ErrorKind::NotFound
    );
    error(folder.0.join("x".repeat(120)));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[test]
fn a_removed_file_is_made_again() {
    let folder = Folder::new("removed");
    let path = folder.0.join("echo.sock");
    let mut sockets = table();
    let old = UnixListener::from(sockets.listen_unix(WorkerId(0), &path, 0o640).unwrap());
    sockets.ready(WorkerId(0));
    fs::remove_file(&path).unwrap();
    sockets.look_after_files(true);
    sockets.begin(WorkerId(2), A);
    let new = UnixListener::from(sockets.listen_unix(WorkerId(2), &path, 0o640).unwrap());
    let _client = UnixStream::connect(&path).unwrap();
    new.accept().unwrap();
    drop(old);
    drop(sockets);
    assert!(!path.exists());
}
