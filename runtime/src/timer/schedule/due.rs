//! Due times: one, neighbouring ones, and those that wait.

use std::collections::VecDeque;
use std::sync::Arc;

/// Nanoseconds since the timer was started.
pub(in crate::timer) type Nanos = u64;

pub(in crate::timer) const NEVER: Nanos = Nanos::MAX;

/// A due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::timer) struct Due {
    pub(in crate::timer) index: u64,
    /// On the grid, before jitter.
    pub(in crate::timer) at: Nanos,
}

/// Neighbouring due times.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) first: Due,
    pub(super) step: Nanos,
    pub(super) count: u64,
    /// Of several on no grid, and where the first is among them.
    pub(super) times: Option<(Arc<[Nanos]>, usize)>,
}

impl Default for Run {
    fn default() -> Self {
        Run {
            first: Due { index: 0, at: 0 },
            step: 0,
            count: 0,
            times: None,
        }
    }
}

impl Run {
    pub(super) fn one(due: Due) -> Run {
        Run {
            first: due,
            step: 0,
            count: 1,
            times: None,
        }
    }

    pub(super) fn nth(&self, i: u64) -> Due {
        Due {
            index: self.first.index + i,
            at: match &self.times {
                None => self.first.at + i * self.step,
                Some((times, first)) => times[first + i as usize],
            },
        }
    }

    pub(super) fn newest(&self) -> Due {
        self.nth(self.count.saturating_sub(1))
    }

    pub(super) fn newest_of(self, count: u64) -> Run {
        if count == 0 {
            return Run::default();
        }
        let older = self.count - count;
        Run {
            first: self.nth(older),
            step: self.step,
            count,
            times: self
                .times
                .map(|(times, first)| (times, first + older as usize)),
        }
    }

    /// This one and `later` in one, if there is nothing between them.
    pub(super) fn followed_by(self, later: &Run) -> Option<Run> {
        let follows = self.first.index + self.count == later.first.index;
        follows.then(|| {
            let earlier = (0..self.count).map(|i| self.nth(i).at);
            let times = earlier.chain((0..later.count).map(|i| later.nth(i).at));
            Run {
                first: self.first,
                step: 0,
                count: self.count + later.count,
                times: Some((times.collect(), 0)),
            }
        })
    }

    pub(super) fn split_newest(self) -> (Run, Run) {
        let newest = Run::one(self.newest());
        let earlier = Run {
            count: self.count - 1,
            ..self
        };
        (earlier, newest)
    }

    pub(super) fn pop_front(&mut self) -> Option<Due> {
        let due = self.first;
        self.count = self.count.checked_sub(1)?;
        if self.count > 0 {
            self.first = self.nth(1);
            if let Some((_, first)) = &mut self.times {
                *first += 1;
            }
        }
        Some(due)
    }
}

/// A queue that owns no memory until a second one waits, which most timers never see.
#[derive(Debug)]
pub(super) struct Fifo {
    /// At [`NEVER`] when there is none.
    front: Due,
    #[allow(
        clippy::box_collection,
        reason = "a third of the size where there is none"
    )]
    rest: Option<Box<VecDeque<Due>>>,
}

const NONE: Due = Due {
    index: 0,
    at: NEVER,
};

impl Default for Fifo {
    fn default() -> Self {
        Fifo {
            front: NONE,
            rest: None,
        }
    }
}

impl Fifo {
    pub(super) fn len(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.len());
        usize::from(!self.is_empty()) + rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front.at == NEVER
    }

    /// When the oldest that waits was due, which isn't the first if it is replayed; [`NEVER`] if none waits.
    pub(super) fn oldest_at(&self) -> Nanos {
        let rest = self.rest.iter().flat_map(|rest| rest.iter());
        rest.fold(self.front.at, |oldest, due| oldest.min(due.at))
    }

    pub(super) fn push_back(&mut self, due: Due) {
        if self.is_empty() {
            self.front = due;
        } else {
            self.rest.get_or_insert_default().push_back(due);
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<Due> {
        if self.is_empty() {
            return None;
        }
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front());
        Some(std::mem::replace(&mut self.front, next.unwrap_or(NONE)))
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Due> {
        let empty = self.is_empty();
        let rest = self.rest.as_mut().and_then(|rest| rest.back_mut());
        rest.or((!empty).then_some(&mut self.front))
    }
}
