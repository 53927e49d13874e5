//! A policy played through, failure by failure.

use core::time::Duration;

use super::PreviewRow;
use crate::policy::jitter::Spread;
use crate::policy::{Backoff, GiveUpReason, Jitter, Plan, from_nanos};

/// Where a policy ends, if delays are neither lucky nor unlucky.
#[derive(Clone, Copy)]
pub(super) enum End {
    Never {
        steady_from: u32,
    },
    GivesUp {
        at: u32,
        elapsed: Duration,
        reason: GiveUpReason,
    },
    GivesUpInTime {
        steady_from: u32,
        limit: Duration,
    },
    Later,
}

/// The rows, one after the other. Times are nanoseconds.
pub(super) struct Walk {
    plan: Plan,
    decorrelated: bool,
    failures: u32,
    /// The interval of the longest streak of delays, and of the mean one: the same but for
    /// [`Jitter::Decorrelated`].
    longest: Option<u64>,
    typical: Option<u64>,
    elapsed: u64,
    delay: u64,
    /// No later row differs.
    steady: bool,
    gave_up: Option<GiveUpReason>,
}

impl Walk {
    pub(super) fn new(backoff: &Backoff) -> Walk {
        Walk {
            plan: Plan::of(backoff),
            decorrelated: backoff.jitter == Jitter::Decorrelated,
            failures: 0,
            longest: None,
            typical: None,
            elapsed: 0,
            delay: 0,
            steady: false,
            gave_up: None,
        }
    }

    pub(super) fn is_steady(&self) -> bool {
        self.steady
    }

    /// Whether rows that are all alike lead to no end: without a delay, only the attempts' own time
    /// passes.
    fn ends_later(&self) -> bool {
        let Plan {
            retries, deadline, ..
        } = self.plan;
        retries == u32::MAX && (deadline == u64::MAX || self.delay == 0)
    }

    /// Where this ends, once its rows have.
    pub(super) fn end(&self) -> End {
        if let Some(reason) = self.gave_up {
            return End::GivesUp {
                at: self.failures,
                elapsed: from_nanos(self.elapsed),
                reason,
            };
        }
        // Steady: the rest is a division.
        let Plan {
            retries, deadline, ..
        } = self.plan;
        let by_count = retries.checked_add(1);
        let waits = deadline
            .saturating_sub(self.elapsed)
            .checked_div(self.delay)
            .filter(|_| deadline < u64::MAX);
        // More of them than can be counted: the time is all there is to say.
        let by_time = waits.and_then(|waits| {
            let waits = u32::try_from(waits).ok()?;
            waits.checked_add(self.failures)?.checked_add(1)
        });
        let (at, reason) = match (by_count, by_time) {
            (Some(failures), Some(at)) if at < failures => (at, GiveUpReason::Elapsed),
            (Some(failures), _) => (failures, GiveUpReason::Failures),
            (None, Some(at)) => (at, GiveUpReason::Elapsed),
            (None, None) if deadline < u64::MAX => {
                return End::GivesUpInTime {
                    steady_from: self.failures,
                    limit: from_nanos(deadline),
                };
            }
            (None, None) => {
                return End::Never {
                    steady_from: self.failures,
                };
            }
        };
        let more = self.delay.saturating_mul(u64::from(at - 1 - self.failures));
        End::GivesUp {
            at,
            elapsed: from_nanos(self.elapsed.saturating_add(more)),
            reason,
        }
    }
}

impl Iterator for Walk {
    type Item = PreviewRow;

    fn next(&mut self) -> Option<PreviewRow> {
        let plan = &self.plan;
        if self.gave_up.is_some() || self.steady && self.ends_later() {
            return None;
        }
        let (longest, extremes) = plan.spread_after(self.longest);
        let (typical, typically) = plan.spread_after(self.typical);

        self.failures = self.failures.saturating_add(1);
        self.delay = mean(typically, plan.resolution());
        self.gave_up = plan.gives_up(self.failures, self.elapsed, self.delay);
        if self.gave_up.is_some() {
            return None;
        }
        let then = if self.decorrelated {
            self.delay
        } else {
            typical
        };
        self.steady = plan.interval_after(Some(longest)) == longest
            && (!self.decorrelated || Some(then) == self.typical);
        (self.longest, self.typical) = (Some(longest), Some(then));
        self.elapsed = self.elapsed.saturating_add(self.delay);
        Some(PreviewRow {
            failures: self.failures,
            interval: from_nanos(longest),
            shortest: from_nanos(plan.round_up(extremes.shortest)),
            mean: from_nanos(self.delay),
            longest: from_nanos(plan.round_up(extremes.longest)),
            elapsed: from_nanos(self.elapsed),
        })
    }
}

/// The mean of a uniform draw from `spread`, rounded up to `resolution`: exact, to the nanosecond
/// below.
fn mean(spread: Spread, resolution: u64) -> u64 {
    // The sum of 1..=n, each rounded up to the resolution: q full steps of it, and r of the next.
    let sum_to = |n: u64| {
        let (q, r, resolution) = (
            u128::from(n / resolution),
            u128::from(n % resolution),
            u128::from(resolution),
        );
        (q * (q + 1) / 2 * resolution + r * (q + 1)) * resolution
    };
    match spread.shortest.checked_sub(1) {
        None => 0,
        Some(before) => {
            let choices = u128::from(spread.longest - before);
            ((sum_to(spread.longest) - sum_to(before)) / choices) as u64
        }
    }
}
