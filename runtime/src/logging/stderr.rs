//! The log's way to stderr: a bounded queue, and the thread that writes what is in it.

use std::cell::RefCell;
use std::io::{self, Write};
use std::mem::{swap, take};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::panic;

/// How many bytes may wait: as many again may be with the thread that writes.
const CAPACITY: usize = 1 << 20;
/// What a pipe takes in one piece (`PIPE_BUF`), so that the lines of several processes don't mix.
const PIECE: usize = 4096;
/// How long the writer lets entries gather after it has written some: waking it costs more than an entry.
const GATHER: Duration = Duration::from_millis(1);
/// How long the end of a thread waits for its last lines.
const AT_END: Duration = Duration::from_millis(100);

/// A log's writer that never waits for stderr: made by [`stderr`].
///
/// Each `write` is one entry of the log. It never fails, and `flush` does nothing: see [`flush`].
#[derive(Debug, Clone)]
pub struct Stderr(());

/// The writer of [`init`](super::init), for a subscriber of your own.
///
/// Entries go into a queue of 1 MiB, and a thread writes them to stderr. No caller waits for stderr, whether it is a pipe
/// that nobody reads or a stopped terminal. Entries are lost while the queue is full, and while stderr is closed or
/// its disk is full. An `ERROR` event of the target `aioxide::logging` tells how many, at the place in the log where they
/// are missing.
///
/// The queue is written before a `#[server]` ends, and when a thread that has logged ends, returns from `main` or calls
/// [`std::process::exit`]; that waits at most 100 ms for stderr. What is queued is lost when the process is killed or
/// aborts, and at the end of `main` if the platform's libc runs no destructors of the main thread (musl). Call [`flush`]
/// where that matters.
///
/// ```
/// fn init() {
///     let _taken = tracing_subscriber::fmt()
///         .json()
///         .with_writer(aioxide::logging::stderr)
///         .try_init();
/// }
/// # init();
/// ```
pub fn stderr() -> Stderr {
    // It fails on a thread that has dropped it already, because it ends.
    let _ = LAST.try_with(|_| ());
    Stderr(())
}

/// Waits until everything that was logged before the call is written to stderr, for at most `limit`. Returns whether
/// it is.
///
/// It blocks the thread, so don't call it on an event loop. Only entries of [`stderr`] and [`init`](super::init) are
/// waited for.
pub fn flush(limit: Duration) -> bool {
    match QUEUE.get() {
        Some(Some(queue)) => queue.flush(limit),
        // Nothing was written, or nothing is ever queued.
        _ => true,
    }
}

/// `None` where no thread could be started: then whoever logs writes.
static QUEUE: OnceLock<Option<Arc<Queue>>> = OnceLock::new();

fn queue() -> Option<&'static Queue> {
    let start = || {
        let queue = Arc::new(Queue::default());
        let writes = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("log".to_owned());
        let started = thread.spawn(move || {
            OWN.set(Some(Vec::new()));
            writes.write(&mut Descriptor, &own_line);
        });
        started.ok().map(|_| queue)
    };
    QUEUE.get_or_init(start).as_deref()
}

thread_local! {
    /// What the thread that writes has logged itself; of other threads `None`.
    static OWN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    /// Dropped when the thread ends, also by `exit`.
    static LAST: Last = const { Last };
}

struct Last;

impl Drop for Last {
    fn drop(&mut self) {
        flush(AT_END);
    }
}

impl Write for Stderr {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        let own = OWN.try_with(|own| match &mut *own.borrow_mut() {
            Some(own) => {
                own.extend_from_slice(entry);
                true
            }
            None => false,
        });
        if !own.unwrap_or(false) {
            match queue() {
                Some(queue) => queue.push(entry),
                None => drop(Descriptor.write_all(entry)),
            }
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Without the lock of [`std::io::stderr`], which a panic's message would wait for while a write waits.
struct Descriptor;

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The entry that says how many others are missing, in the format of the log.
fn own_line(lost: u64) -> Vec<u8> {
    panic::guarded(|| {
        tracing::error!(
            target: "aioxide::logging",
            lost,
            "{lost} entries of the log are lost: stderr did not take them"
        );
    });
    OWN.with(|own| own.borrow_mut().as_mut().map(take).unwrap_or_default())
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    /// The writer sleeps until it is woken, which it is when there is something to write.
    idle: bool,
    /// The writer is not to let entries gather.
    hurry: bool,
    /// How many entries were ever pushed, and how many of them are written or lost.
    pushed: u64,
    done: u64,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// How long each is.
    entries: Vec<usize>,
    /// How many found no room after these.
    lost: u64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, entry: &[u8]) {
        let mut state = self.lock();
        state.pushed += 1;
        let waiting = &mut state.waiting;
        if waiting.bytes.len() + size_of_val(waiting.entries.as_slice()) < CAPACITY {
            waiting.bytes.extend_from_slice(entry);
            waiting.entries.push(entry.len());
        } else {
            waiting.lost += 1;
        }
        let half_full = waiting.bytes.len() > CAPACITY / 2 && !state.hurry;
        state.hurry |= half_full;
        let wake = take(&mut state.idle) || half_full;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    fn flush(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        let pushed = state.pushed;
        state.hurry = true;
        self.filled.notify_one();
        let until = self
            .written
            .wait_timeout_while(state, limit, |state| state.done < pushed);
        let (state, _) = until.unwrap_or_else(PoisonError::into_inner);
        state.done >= pushed
    }

    /// Writes what is pushed, for ever. `tell` makes the entry that says how many are lost.
    fn write(&self, out: &mut dyn Write, tell: &dyn Fn(u64) -> Vec<u8>) {
        let mut writer = Writer { out, tell, lost: 0 };
        let mut taken = Waiting::default();
        loop {
            let state = self.lock();
            let gathered = self
                .filled
                .wait_timeout_while(state, GATHER, |state| !state.hurry);
            let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            while state.waiting.entries.is_empty() {
                state.idle = true;
                let filled = self.filled.wait(state);
                state = filled.unwrap_or_else(PoisonError::into_inner);
            }
            (state.idle, state.hurry) = (false, false);
            swap(&mut state.waiting, &mut taken);
            drop(state);

            writer.write(&taken);
            self.lock().done += taken.entries.len() as u64 + taken.lost;
            self.written.notify_all();

            taken.bytes.clear();
            taken.entries.clear();
            taken.lost = 0;
            // Memory for a burst is given back.
            taken.bytes.shrink_to(CAPACITY / 16);
            taken.entries.shrink_to(CAPACITY / 256);
        }
    }
}

struct Writer<'w> {
    out: &'w mut dyn Write,
    tell: &'w dyn Fn(u64) -> Vec<u8>,
    /// How many are lost and not told yet.
    lost: u64,
}

impl Writer<'_> {
    /// Writes all of it, in pieces of whole entries.
    fn write(&mut self, waiting: &Waiting) {
        let mut rest = waiting.bytes.as_slice();
        let (mut length, mut entries) = (0, 0);
        for bytes in &waiting.entries {
            if length + bytes > PIECE {
                rest = self.piece(rest, take(&mut length), take(&mut entries));
            }
            length += bytes;
            entries += 1;
        }
        self.piece(rest, length, entries);
        self.lost += waiting.lost;
        self.tell();
    }

    /// Writes the first bytes, which are so many entries, and leaves the rest.
    fn piece<'b>(&mut self, bytes: &'b [u8], length: usize, entries: u64) -> &'b [u8] {
        let (piece, rest) = bytes.split_at(length);
        self.tell();
        // What is left of the piece after an error would only be half of it.
        if self.out.write_all(piece).is_err() {
            self.lost += entries;
        }
        rest
    }

    fn tell(&mut self) {
        if self.lost > 0 {
            let entry = (self.tell)(self.lost);
            // Empty when nobody listens to such an event.
            if !entry.is_empty() && self.out.write_all(&entry).is_ok() {
                self.lost = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;

    fn tell(lost: u64) -> Vec<u8> {
        format!("{lost} lost\n").into_bytes()
    }

    /// Keeps each write; fails while it is `full`.
    #[derive(Default)]
    struct Pieces {
        full: bool,
        pieces: Vec<String>,
    }

    impl Write for Pieces {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            if self.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.pieces.push(String::from_utf8(piece.to_vec()).unwrap());
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn taken(queue: &Queue) -> Waiting {
        take(&mut queue.lock().waiting)
    }

    #[test]
    fn a_piece_is_of_whole_entries() {
        let queue = Queue::default();
        let entries: Vec<String> = [10, 4000, 90, 5000, 1, 4095, 1, 4096]
            .map(|length: usize| "x".repeat(length - 1) + "\n")
            .into();
        for entry in &entries {
            queue.push(entry.as_bytes());
        }
        let mut out = Pieces::default();
        let (lost, tell) = (0, &tell);
        Writer {
            out: &mut out,
            tell,
            lost,
        }
        .write(&taken(&queue));
        assert_eq!(out.pieces.concat(), entries.concat());
        let lengths: Vec<usize> = out.pieces.iter().map(String::len).collect();
        assert_eq!(lengths, [4010, 90, 5000, 4096, 1, 4096]);
    }

    #[test]
    fn what_finds_no_room_is_told_where_it_is_missing() {
        let queue = Queue::default();
        let entry = |number: u32| format!("{number:>7}\n");
        for number in 0..200_000 {
            queue.push(entry(number).as_bytes());
        }
        let mut first = taken(&queue);
        assert!(first.bytes.len() + first.entries.len() * size_of::<usize>() <= CAPACITY + 16);
        assert_eq!(first.entries.len() as u64 + first.lost, 200_000);
        first.bytes.drain(16..);
        first.entries.truncate(2);
        queue.push(b"after\n");

        let mut out = Pieces::default();
        let mut writer = Writer {
            out: &mut out,
            tell: &tell,
            lost: 0,
        };
        writer.write(&first);
        writer.write(&taken(&queue));
        let told = format!("{} lost\n", first.lost);
        assert_eq!(
            out.pieces.concat(),
            [&entry(0), &entry(1), &told, "after\n"].concat()
        );
    }

    #[test]
    fn what_cannot_be_written_is_told_once_something_can() {
        let queue = Queue::default();
        let mut out = Pieces {
            full: true,
            ..Pieces::default()
        };
        queue.push(b"a\n");
        queue.push(b"b\n");
        let mut writer = Writer {
            out: &mut out,
            tell: &tell,
            lost: 0,
        };
        writer.write(&taken(&queue));
        let lost = writer.lost;
        assert_eq!(lost, 2);
        out.full = false;
        queue.push(b"c\n");
        Writer {
            out: &mut out,
            tell: &tell,
            lost,
        }
        .write(&taken(&queue));
        assert_eq!(out.pieces, ["2 lost\n", "c\n"]);
    }

    #[test]
    fn what_cannot_be_told_is_told_later() {
        let mut out = Pieces::default();
        let mut writer = Writer {
            out: &mut out,
            tell: &|_| Vec::new(),
            lost: 3,
        };
        writer.tell();
        assert_eq!(writer.lost, 3);
        assert!(out.pieces.is_empty());
    }

    /// Waits at each write until it may.
    struct Gate {
        may: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.may.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_never_waits_and_a_flush_waits_for_its_limit() {
        let queue = Arc::new(Queue::default());
        assert!(queue.flush(Duration::ZERO), "nothing was logged");
        let (open, may) = channel();
        let (sender, written) = channel();
        let writes = Arc::clone(&queue);
        thread::spawn(move || {
            let mut gate = Gate {
                may,
                written: sender,
            };
            writes.write(&mut gate, &tell);
        });
        // Far more than has room, while the writer can write nothing.
        let entry = [b'x'; 1000];
        for _ in 0..10 * CAPACITY / entry.len() {
            queue.push(&entry);
        }
        assert!(queue.lock().waiting.bytes.len() <= CAPACITY + entry.len());
        assert!(!queue.flush(Duration::from_millis(1)));
        // From now on it can.
        drop(open);
        assert!(queue.flush(Duration::from_secs(60)));
        let bytes: Vec<u8> = written.try_iter().flatten().collect();
        let text = String::from_utf8(bytes).unwrap();
        let kept = text.matches('x').count() / entry.len();
        // The writer may take a full queue twice: what is missing is told after each.
        let told = text.split_inclusive(" lost\n");
        let told = told.filter_map(|part| part.trim_start_matches('x').strip_suffix(" lost\n"));
        let lost: usize = told.map(|lost| lost.parse::<usize>().unwrap()).sum();
        assert!(lost > 0);
        assert_eq!(kept + lost, 10 * CAPACITY / entry.len(), "{lost} lost");
    }
}
