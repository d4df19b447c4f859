//! Where the pending teardowns are: which of them is at a number in a place, or inside what is there.

use std::collections::{BTreeMap, BTreeSet};

/// How many numbers share a block: looking through the blocks of a place, and then through one of them, is fast for a
/// hundred thousand that are pending in it.
const BLOCK: u64 = 256;

/// Names a pending teardown, or a wait; a later one has a greater ticket.
pub(crate) type Ticket = u64;

/// What is at some numbers in a place, and what is inside that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range<P> {
    pub(crate) place: P,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

pub(super) struct Paths<P> {
    /// By place, and by number divided by [`BLOCK`].
    blocks: BTreeMap<(P, u64), Block>,
}

#[derive(Default)]
struct Block {
    by_number: BTreeSet<(u64, Ticket)>,
    by_ticket: BTreeSet<(Ticket, u64)>,
}

impl<P: Copy + Ord> Paths<P> {
    pub(super) const fn new() -> Paths<P> {
        Paths {
            blocks: BTreeMap::new(),
        }
    }

    pub(super) fn insert(&mut self, place: P, number: u64, ticket: Ticket) {
        let block = self.blocks.entry((place, number / BLOCK)).or_default();
        block.by_number.insert((number, ticket));
        block.by_ticket.insert((ticket, number));
    }

    pub(super) fn remove(&mut self, place: P, number: u64, ticket: Ticket) {
        let key = (place, number / BLOCK);
        let Some(block) = self.blocks.get_mut(&key) else {
            return;
        };
        block.by_number.remove(&(number, ticket));
        block.by_ticket.remove(&(ticket, number));
        if block.by_number.is_empty() {
            self.blocks.remove(&key);
        }
    }

    /// By number.
    pub(super) fn all(&self, range: Range<P>) -> impl Iterator<Item = (u64, Ticket)> + '_ {
        let blocks = self.blocks(range);
        blocks.flat_map(move |block| block.within(range))
    }

    /// The one at the smallest number, of those with a ticket below `ticket` and but for `own`.
    pub(super) fn first_before(
        &self,
        range: Range<P>,
        ticket: Ticket,
        own: Option<Ticket>,
    ) -> Option<(u64, Ticket)> {
        let blocks = self.blocks(range);
        let oldest = |block: &Block| block.by_ticket.first().map(|&(oldest, _)| oldest);
        blocks
            .filter(|block| oldest(block).is_some_and(|oldest| oldest < ticket))
            .flat_map(|block| block.within(range))
            .find(|&(_, found)| found < ticket && Some(found) != own)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let blocks = self.blocks.values();
        blocks.map(|block| block.by_number.len()).sum()
    }

    fn blocks(&self, range: Range<P>) -> impl Iterator<Item = &Block> {
        let first = (range.place, range.from / BLOCK);
        let last = (range.place, range.to / BLOCK);
        let found = (range.from <= range.to).then(|| self.blocks.range(first..=last));
        found.into_iter().flatten().map(|(_, block)| block)
    }
}

impl Block {
    fn within<P>(&self, range: Range<P>) -> impl Iterator<Item = (u64, Ticket)> + use<'_, P> {
        let first = (range.from, Ticket::MIN);
        let last = (range.to, Ticket::MAX);
        self.by_number.range(first..=last).copied()
    }
}
