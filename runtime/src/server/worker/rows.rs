//! How much of a list goes into an answer to those who look into a running server.

use std::io::{self, Write};

use serde::Serialize;

use crate::server::line::LONGEST_ANSWER;

/// What stands around the rows.
const FRAME: usize = 1024;

/// How many more bytes of rows go into an answer.
pub(super) struct Room(usize);

impl Room {
    pub(super) fn of_an_answer() -> Room {
        Room(LONGEST_ANSWER - FRAME)
    }

    /// A part of it, for the rows that are put in first.
    pub(super) fn half(&mut self) -> Room {
        let half = self.0 / 2;
        self.0 -= half;
        Room(half)
    }

    /// What another has left over.
    pub(super) fn regain(&mut self, left: Room) {
        self.0 += left.0;
    }

    /// As many of these rows, from the first one, as there is room for. Those that follow aren't made.
    pub(super) fn take<T: Serialize>(&mut self, rows: impl Iterator<Item = T>) -> Vec<T> {
        rows.map_while(|row| {
            // With the comma.
            self.0 = self.0.checked_sub(length(&row) + 1)?;
            Some(row)
        })
        .collect()
    }
}

/// In JSON.
fn length(row: &impl Serialize) -> usize {
    struct Counter(usize);
    impl Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, row) {
        Ok(()) => counter.0,
        // There is no room for what can't be written.
        Err(_) => usize::MAX - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_as_long_as_there_is_room() {
        // With quotes and comma these are 5 and, as the end of the line is written as two, 6 bytes.
        let mut room = Room(10);
        assert_eq!(room.take(["ab", "c\n", "d"].into_iter()), ["ab"]);
        let mut room = Room(12);
        let mut half = room.half();
        assert_eq!(half.take(["abc", "d"].into_iter()), ["abc"]);
        room.regain(half);
        assert_eq!(room.take(["abc"].into_iter()), ["abc"]);
        assert_eq!(room.take(["d"].into_iter()), [""; 0]);
    }
}
