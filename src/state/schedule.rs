//! The waits of one streak as an iterator.

use core::iter::FusedIterator;
use core::time::Duration;

use super::{BackoffState, Decision, Failure};
use crate::policy::Backoff;
use crate::random;

/// The waits of a streak that never succeeds: one delay a failure, and `None` for giving up.
///
/// Any retry library that takes an iterator of durations runs on it. Elapsed time is the sum of the
/// waits so far, as if attempts took none.
///
/// Once it has given up it stays so, until [`reset`](Self::reset). A clone goes on with the same
/// waits.
///
/// ```
/// use relent::{Backoff, Jitter};
/// use std::time::Duration;
///
/// let policy = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(5)).jitter(Jitter::None);
/// let waits: Vec<_> = policy.give_up_after_failures(5).schedule().map(|wait| wait.as_secs()).collect();
/// assert_eq!(waits, [1, 2, 4, 5]);
/// ```
#[derive(Clone, Debug)]
pub struct Schedule {
    backoff: Backoff,
    state: BackoffState,
    elapsed: Duration,
    gave_up: bool,
    seed: u64,
    draws: u64,
}

impl Backoff {
    /// The waits of this policy, with fresh randomness: no two schedules share their jitter.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        self.schedule_seeded(random::seed())
    }

    /// The waits of this policy, the same for the same seed.
    #[must_use]
    pub const fn schedule_seeded(&self, seed: u64) -> Schedule {
        Schedule {
            backoff: *self,
            state: BackoffState {
                failures: 0,
                interval: Duration::ZERO,
            },
            elapsed: Duration::ZERO,
            gave_up: false,
            seed,
            draws: 0,
        }
    }
}

impl Schedule {
    /// Begins a new streak, as after a success. Its jitter is new too: the draws go on.
    pub const fn reset(&mut self) {
        self.state = BackoffState {
            failures: 0,
            interval: Duration::ZERO,
        };
        self.elapsed = Duration::ZERO;
        self.gave_up = false;
    }

    /// What the streak has come to.
    #[must_use]
    pub const fn state(&self) -> BackoffState {
        self.state
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.gave_up {
            return None;
        }
        let failure = Failure::new(random::draw(self.seed, self.draws)).elapsed(self.elapsed);
        self.draws = self.draws.wrapping_add(1);
        match self.backoff.next(&mut self.state, failure) {
            Decision::Retry { after } => {
                self.elapsed = self.elapsed.saturating_add(after);
                Some(after)
            }
            Decision::GiveUp(_) => {
                self.gave_up = true;
                None
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.gave_up {
            return (0, Some(0));
        }
        let give_up = self.backoff.give_up;
        let longest = give_up.after_failures.map(|limit| limit.max(1) - 1);
        let left = longest.map(|longest| longest.saturating_sub(self.state.failures) as usize);
        match (left, give_up.after_elapsed) {
            (Some(left), None) => (left, Some(left)),
            (left, Some(_)) => (0, left),
            (None, None) => (usize::MAX, None),
        }
    }
}

impl FusedIterator for Schedule {}
