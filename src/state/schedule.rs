//! The waits of one streak as an iterator.

use core::iter::FusedIterator;
use core::time::Duration;

use super::{BackoffState, Exact};
use crate::policy::{Backoff, Plan, from_nanos};
use crate::random;

/// The waits of a streak that never succeeds: one delay per failure, and `None` for giving up.
///
/// Any retry library that takes an iterator of durations runs on it. Elapsed time is the sum of the
/// waits so far, as if attempts took none.
///
/// Once it has given up it stays so, until [`reset`](Self::reset). A clone goes on with the same
/// waits, and so does the copy in a forked process.
///
/// ```
/// use relent::{Backoff, Jitter};
/// use std::time::Duration;
///
/// # #[cfg(feature = "std")]
/// # {
/// let policy = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(5))
///     .jitter(Jitter::None)
///     .give_up_after_failures(5);
/// let waits: Vec<_> = policy.schedule().map(|wait| wait.as_secs()).collect();
/// assert_eq!(waits, [1, 2, 4, 5]);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Schedule {
    plan: Plan,
    failures: u32,
    gave_up: bool,
    /// Nanoseconds, as `elapsed`.
    interval: u64,
    elapsed: u64,
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
            plan: Plan::of(self),
            failures: 0,
            gave_up: false,
            interval: 0,
            elapsed: 0,
            seed,
            draws: 0,
        }
    }
}

impl Schedule {
    /// Begins a new streak, as after a success. Its jitter is new too: the draws go on.
    pub const fn reset(&mut self) {
        self.failures = 0;
        self.gave_up = false;
        self.interval = 0;
        self.elapsed = 0;
    }

    /// What the streak has come to.
    #[must_use]
    pub const fn state(&self) -> BackoffState {
        BackoffState {
            failures: self.failures,
            interval: from_nanos(self.interval),
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.gave_up {
            return None;
        }
        let failure = Exact {
            elapsed: self.elapsed,
            retry_after: 0,
            entropy: random::draw(self.seed, self.draws),
        };
        self.draws = self.draws.wrapping_add(1);
        let step = self.plan.step(self.failures, self.interval, failure);
        self.failures = step.failures;
        self.interval = step.interval;
        self.gave_up = step.gave_up.is_some();
        if self.gave_up {
            return None;
        }
        self.elapsed = self.elapsed.saturating_add(step.delay);
        Some(from_nanos(step.delay))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.gave_up {
            return (0, Some(0));
        }
        let Plan {
            retries, deadline, ..
        } = self.plan;
        let left = retries.saturating_sub(self.failures) as usize;
        match (retries, deadline) {
            (u32::MAX, u64::MAX) => (usize::MAX, None),
            (u32::MAX, _) => (0, None),
            (_, u64::MAX) => (left, Some(left)),
            _ => (0, Some(left)),
        }
    }
}

impl FusedIterator for Schedule {}
