//! How often and how long each comparison measures, and in what order.

use std::time::Duration;

use crate::python::Python;

pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// For which a server is under load in a round; timers run four times as long.
    pub(crate) time: Duration,
    pub(crate) python: Option<Python>,
}

impl Plan {
    /// The rounds of what takes long.
    pub(super) fn few_rounds(&self) -> usize {
        self.rounds.div_ceil(2)
    }
}

/// Begins at another one each time.
pub(super) fn in_turn<T>(all: &mut [T], turn: usize) -> impl Iterator<Item = &mut T> {
    let start = turn % all.len().max(1);
    let (last, first) = all.split_at_mut(start);
    first.iter_mut().chain(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn() {
        let orders: [Vec<u8>; 3] =
            [0, 1, 5].map(|turn| in_turn(&mut [0, 1, 2], turn).map(|n| *n).collect());
        assert_eq!(orders, [vec![0, 1, 2], vec![1, 2, 0], vec![2, 0, 1]]);
        assert_eq!(in_turn::<u8>(&mut [], 1).count(), 0);
    }
}
