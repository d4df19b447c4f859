//! Leases by locks on files, among the processes of one host.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::contract::Lease;
use super::due;
use super::error::LeaseError;
use super::text;
use super::types::{Held, Owner, Progress, Token};

/// How often one who waits looks whether the lock is free: nothing tells.
const LOOK: Duration = Duration::from_millis(50);

/// A [`Lease`] by a lock (flock) on a file, among the processes of one host: feature `lease-file`, rustc 1.85.
///
/// Each lease has a file in the folder, named after it, with its token and how far the work is. A clone is the same
/// store; two of one process on one folder exclude each other as two processes do.
///
/// The lock doesn't expire: [`left`](Held::left) is [`Duration::MAX`]. The system gives it up when the holder's process
/// ends, however that comes about, so it is handed over after a crash within 50 ms. **A holder that is stopped (SIGSTOP)
/// or hangs keeps it.** So does one that is gone without a [`release`](Lease::release), such as a timer of a thread worker
/// that has panicked, for as long as a clone of the store lives: make the store in the worker.
///
/// The folder must be on a file system of the host, not on NFS, and not where something removes old files; a lease whose
/// file is removed is lost at its next renewal, and its tokens start anew.
///
/// Files are read, written and synced on tokio's threads for blocking work. A dropped [`hold`](Lease::hold) gives up what
/// it has taken.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aioxide::lease::LeaseError> {
/// use std::time::Duration;
/// use aioxide::lease::{FileLease, Lease, Owner};
///
/// # let folder = std::env::temp_dir().join(format!("aioxide-doc-{}", std::process::id()));
/// # struct Gone(std::path::PathBuf);
/// # impl Drop for Gone { fn drop(&mut self) { let _ = std::fs::remove_dir_all(&self.0); } }
/// # let gone = Gone(folder.clone());
/// let lease = FileLease::new(folder)?;
/// let held = lease.hold("report", &Owner::unique(), Duration::from_secs(15)).await?;
/// assert!(held.is_some());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FileLease(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// What is held, by name.
    held: Mutex<HashMap<String, Locked>>,
}

#[derive(Debug)]
struct Locked {
    owner: Owner,
    file: Lock,
    mark: Mark,
    /// Of how many calls the answer is on its way.
    answers: usize,
    /// A caller knows that it is held.
    kept: bool,
}

impl FileLease {
    /// Leases in the files of `folder`, which is made if it isn't there. Blocks for that.
    ///
    /// # Errors
    ///
    /// If the folder can't be made.
    pub fn new(folder: impl Into<PathBuf>) -> Result<FileLease, LeaseError> {
        let path = folder.into();
        fs::create_dir_all(&path).map_err(|error| {
            LeaseError::store(
                format!("make the folder {} for leases", path.display()),
                error,
            )
        })?;
        Ok(FileLease(Arc::new(Folder {
            path,
            held: Mutex::default(),
        })))
    }
}

impl Lease for FileLease {
    async fn hold(
        &self,
        name: &str,
        owner: &Owner,
        _ttl: Duration,
    ) -> Result<Option<Held>, LeaseError> {
        let (folder, of, by) = (Arc::clone(&self.0), name.to_owned(), owner.clone());
        match blocking(move || Folder::hold(folder, of, by)).await {
            Ok(taken) => Ok(taken.map(Taken::keep)),
            Err(error) => Err(LeaseError::store(format!("hold lease `{name}`"), error)),
        }
    }

    async fn record(
        &self,
        name: &str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> Result<(), LeaseError> {
        let last = Some((due::nanos(name, due)?, at));
        let (folder, of) = (Arc::clone(&self.0), name.to_owned());
        match blocking(move || folder.record(&of, token, last)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(LeaseError::stale(name, token)),
            Err(error) => {
                let action = format!("record how far the work of lease `{name}` is");
                Err(LeaseError::store(action, error))
            }
        }
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), LeaseError> {
        self.0.release(name, token);
        Ok(())
    }

    async fn changed(&self, name: &str, ttl: Duration) {
        loop {
            match self.0.is_free(name) {
                Ok(true) => return,
                Ok(false) => sleep(LOOK.min(ttl / 3)).await,
                // `hold` fails too, and tells why.
                Err(_) => return sleep(ttl / 3).await,
            }
        }
    }
}

/// On a thread where it may block.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match spawn_blocking(call).await {
        Ok(answer) => answer,
        Err(error) => Err(error.into()),
    }
}

impl Folder {
    fn hold(self: Arc<Folder>, name: String, owner: Owner) -> io::Result<Option<Taken>> {
        let path = self.file(&name);
        let mut all = self.held();
        if let Some(locked) = all.get(&name) {
            if !is_at(&locked.file, &path)? {
                // Somebody removed the file, and others may hold the new one.
                all.remove(&name);
            } else if locked.owner != owner {
                return Ok(None);
            }
        }
        if !all.contains_key(&name) {
            let Some(file) = lock(&path)? else {
                return Ok(None);
            };
            let mut mark = Mark::read(&file)?;
            mark.token += 1;
            mark.write(&file)?;
            let locked = Locked {
                owner,
                file,
                mark,
                answers: 0,
                kept: false,
            };
            all.insert(name.clone(), locked);
        }
        let taken = all.get_mut(&name).map(|locked| {
            locked.answers += 1;
            locked.held()
        });
        drop(all);
        Ok(taken.map(|held| Taken {
            held,
            folder: self,
            name,
        }))
    }

    /// Whether the token is the newest.
    fn record(&self, name: &str, token: Token, last: Option<(i64, Progress)>) -> io::Result<bool> {
        let path = self.file(name);
        let mut all = self.held();
        if let Some(locked) = all.get_mut(name) {
            if is_at(&locked.file, &path)? {
                return locked.mark.record(&locked.file, token, last);
            }
        }
        // Held by nobody here. Unless another process holds it, the token may still be the newest. The shared lock keeps
        // others from taking the lease meanwhile, and doesn't disturb those who look whether it is free.
        let Some(file) = open(OpenOptions::new().read(true).write(true), &path)? else {
            return Ok(false);
        };
        let Some(file) = try_flock(file, FlockOperation::NonBlockingLockShared)? else {
            return Ok(false);
        };
        if !is_at(&file, &path)? {
            return Ok(false);
        }
        Mark::read(&file)?.record(&file, token, last)
    }

    fn release(&self, name: &str, token: Token) {
        let mut all = self.held();
        if all
            .get(name)
            .is_some_and(|locked| locked.mark.token == token.get())
        {
            all.remove(name);
        }
    }

    fn is_free(&self, name: &str) -> io::Result<bool> {
        match open(OpenOptions::new().read(true), &self.file(name))? {
            Some(file) => {
                let lock = try_flock(file, FlockOperation::NonBlockingLockShared)?;
                Ok(lock.is_some())
            }
            None => Ok(true),
        }
    }

    /// Letters, digits, `-` and `_` stand for themselves, other bytes for their number.
    fn file(&self, name: &str) -> PathBuf {
        let mut file = String::new();
        for byte in name.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => file.push(byte.into()),
                other => file.push_str(&format!("%{other:02x}")),
            }
        }
        self.path.join(file + ".lease")
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Locked>> {
        // Each change is a single step.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Locked {
    fn held(&self) -> Held {
        let last = self.mark.last;
        Held {
            token: Token::new(self.mark.token),
            left: Duration::MAX,
            last: last.and_then(|(nanos, at)| Some((due::due(nanos)?, at))),
        }
    }
}

/// What was taken for a caller who may be gone: nothing else would ever give it up.
struct Taken {
    held: Held,
    folder: Arc<Folder>,
    name: String,
}

impl Taken {
    fn keep(self) -> Held {
        if let Some(locked) = self.folder.held().get_mut(&self.name) {
            locked.kept |= locked.held().token == self.held.token;
        }
        self.held
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut all = self.folder.held();
        let Some(locked) = all.get_mut(&self.name) else {
            return;
        };
        if locked.held().token == self.held.token {
            locked.answers -= 1;
            // Calls of one owner may overlap, and any of them may be the one that is heard.
            if locked.answers == 0 && !locked.kept {
                all.remove(&self.name);
            }
        }
    }
}

/// A file that is locked until this is dropped. Closing it isn't enough: a program that is just being started has a copy of
/// it for a moment, and with that the lock.
#[derive(Debug)]
struct Lock(File);

impl std::ops::Deref for Lock {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // If it can't be unlocked, closing it does that in the end.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// What stands in a lease's file: a line of a fixed length, so that a single write changes it as a whole.
#[derive(Debug)]
struct Mark {
    token: u64,
    last: Option<(i64, Progress)>,
}

/// Longer than the longest token, due time and progress.
const LINE: usize = 64;

impl Mark {
    fn read(file: &File) -> io::Result<Mark> {
        let mut line = [b' '; LINE];
        let mut read = 0;
        while read < LINE {
            match file.read_at(&mut line[read..], read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        if read == 0 {
            return Ok(Mark {
                token: 0,
                last: None,
            });
        }
        let text = String::from_utf8_lossy(&line[..read]);
        Mark::parse(text.trim()).ok_or_else(|| {
            let error = format!(
                "the file holds `{}`; expected is a token, a due time and its progress",
                text.trim().escape_debug()
            );
            io::Error::new(io::ErrorKind::InvalidData, error)
        })
    }

    fn parse(text: &str) -> Option<Mark> {
        let (token, last) = match text.split_once(' ') {
            Some((token, last)) => {
                let (due, at) = text::decode(last)?;
                (token, Some((due::nanos("", due).ok()?, at)))
            }
            None => (text, None),
        };
        Some(Mark {
            token: token.parse().ok()?,
            last,
        })
    }

    fn write(&self, file: &File) -> io::Result<()> {
        let mut line = self.token.to_string();
        if let Some((nanos, at)) = self.last {
            line.push(' ');
            line.push_str(&text::encode(nanos, at));
        }
        let line = format!("{line:<width$}\n", width = LINE - 1);
        file.write_all_at(line.as_bytes(), 0)?;
        // After a power failure, too, no token is given twice and nothing is forgotten.
        file.sync_data()
    }

    /// Whether the token is the newest.
    fn record(
        &mut self,
        file: &File,
        token: Token,
        last: Option<(i64, Progress)>,
    ) -> io::Result<bool> {
        if self.token != token.get() {
            return Ok(false);
        }
        if self.last < last {
            let before = std::mem::replace(&mut self.last, last);
            self.write(file).inspect_err(|_| self.last = before)?;
        }
        Ok(true)
    }
}

/// Opens the lease's file and locks it; `None` while another has it locked.
fn lock(path: &Path) -> io::Result<Option<Lock>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    loop {
        let file = options.open(path)?;
        let Some(file) = try_flock(file, FlockOperation::NonBlockingLockExclusive)? else {
            return Ok(None);
        };
        // It may have been removed since it was opened.
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
}

fn open(options: &OpenOptions, path: &Path) -> io::Result<Option<File>> {
    match options.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn try_flock(file: File, operation: FlockOperation) -> io::Result<Option<Lock>> {
    match flock(&file, operation) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether this is the file at this path.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_and_fits() {
        for last in [
            None,
            Some((0, Progress::Started)),
            Some((i64::MAX, Progress::Done)),
        ] {
            let folder = std::env::temp_dir();
            let path = folder.join(format!("aioxide-mark-{}", std::process::id()));
            let mut options = OpenOptions::new();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path);
            let file = file.expect("a file can be made");
            fs::remove_file(&path).expect("it is there");
            let mark = Mark {
                token: u64::MAX,
                last,
            };
            mark.write(&file).expect("it can be written");
            assert_eq!(file.metadata().expect("it is open").len(), LINE as u64);
            let read = Mark::read(&file).expect("it can be read");
            assert_eq!((read.token, read.last), (mark.token, mark.last));
        }
    }

    #[test]
    fn names_become_files_of_their_own() {
        let folder = Folder {
            path: PathBuf::from("/run"),
            held: Mutex::default(),
        };
        assert_eq!(folder.file("nightly-1"), Path::new("/run/nightly-1.lease"));
        assert_eq!(
            folder.file("../a b%"),
            Path::new("/run/%2e%2e%2fa%20b%25.lease")
        );
    }
}
