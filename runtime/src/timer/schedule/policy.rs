//! What a program may choose: what becomes of due times when ticks overlap, and when the timer is late.

/// What a due tick does while an earlier one still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// The due time passes without a tick.
    #[default]
    Skip,
    /// Up to so many ticks run at once; the due times of more are skipped.
    Allow(usize),
    /// The newest due tick waits until the running one has ended; at most one waits.
    Wait,
    /// Up to so many due ticks wait, the oldest goes first; the due times of more are skipped.
    Queue(usize),
    /// The running tick is cancelled and replaced.
    Cancel,
}

impl Overlap {
    /// `overlap = allow` without a number: up to 1,024 ticks at once. A tick that is skipped at a cap
    /// this high is warned of, for it is most probably one that never ends.
    pub const ALLOW: Overlap = Overlap::Allow(DEFAULT_CAP as usize);
}

/// That of [`Overlap::ALLOW`].
pub(super) const DEFAULT_CAP: u32 = 1024;

/// What becomes of the due times that the timer itself was late for, several at once: the runtime was
/// stalled, or the process stopped. A calendar counts the time of a suspended machine too; tokio's clock doesn't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// The newest runs; [`Tick::missed`](crate::Tick::missed) tells how many it stands for.
    #[default]
    Coalesce,
    /// None runs; the next tick is that of the next grid point.
    Skip,
    /// The newest so many are replayed, the oldest first, each subject to [`Overlap`].
    Burst(usize),
}
