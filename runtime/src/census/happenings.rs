//! What has gone wrong in the background, for those who follow a server's events.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::SystemTime;

use tokio::sync::Notify;

use super::lock::lock;

/// How many wait to be told; of more than that only their number is.
const WAITING: usize = 50;
/// The most bytes that are told of one.
const TEXT: usize = 500;

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    /// `teardown` or `tick`.
    pub(crate) kind: &'static str,
    pub(crate) at: SystemTime,
    pub(crate) text: String,
}

/// What has yet to be told.
#[derive(Default)]
pub(super) struct Happenings {
    waiting: Mutex<Waiting>,
    new: Notify,
}

#[derive(Default)]
struct Waiting {
    happenings: VecDeque<Happening>,
    /// How many more there were.
    more: u64,
}

impl Happenings {
    pub(super) fn add(&self, kind: &'static str, mut text: String) {
        if text.len() > TEXT {
            let end = (0..=TEXT).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        }
        let at = SystemTime::now();
        let happening = Happening { kind, at, text };
        let mut waiting = lock(&self.waiting);
        match waiting.happenings.len() < WAITING {
            true => waiting.happenings.push_back(happening),
            false => waiting.more += 1,
        }
        drop(waiting);
        self.new.notify_one();
    }

    /// Waits until there is something to be told. Cancel-safe.
    pub(super) async fn wait(&self) {
        self.new.notified().await;
    }

    pub(super) fn take(&self) -> (Vec<Happening>, u64) {
        let Waiting { happenings, more } = std::mem::take(&mut *lock(&self.waiting));
        (happenings.into(), more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::{Census, happened};

    #[tokio::test]
    async fn as_many_wait_as_may_and_the_others_are_counted() {
        let census = Census::new();
        census.join();
        for n in 0..WAITING + 7 {
            happened("tick", || format!("{n}{}", "é".repeat(TEXT)));
        }
        census.happening().await;
        let (told, more) = census.take_happenings();
        assert_eq!((told.len(), more), (WAITING, 7));
        assert!(told[0].text.starts_with("0é") && told[0].text.len() <= TEXT);
        assert_eq!(census.take_happenings().0.len(), 0);
    }
}
