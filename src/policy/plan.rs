//! A policy as the arithmetic sees it: normalised, in whole nanoseconds.

use super::interval::{SECOND, grows, larger, smaller, whole_seconds_down, whole_seconds_up};
use super::jitter::Spread;
use super::product::product;
use super::{Backoff, GiveUpReason, Jitter, Rounding, nanos};

/// What a [`Backoff`] comes to, worked out once.
///
/// Whoever keeps a policy for many failures keeps this. Where the policy is constant, so is this,
/// and the step folds around it. 56 bytes instead of 88: a future that holds one is moved by its
/// caller.
///
/// `initial <= max`, both multiples of the resolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) initial: u64,
    pub(crate) max: u64,
    exponent: f64,
    jitter: Jitter,
    /// The latest time to retry at, counted from the first failure; `u64::MAX` is any: no streak
    /// lasts for 584 years.
    pub(crate) deadline: u64,
    /// How many failures are retried; `u32::MAX` is all.
    pub(crate) retries: u32,
    rounding: Rounding,
}

/// What comes of one failure, in nanoseconds.
pub(crate) struct Wait {
    /// What the next interval grows from.
    pub(crate) interval: u64,
    /// How long to wait, at most `max`.
    pub(crate) delay: u64,
}

impl Plan {
    #[inline(always)]
    pub(crate) const fn of(backoff: &Backoff) -> Plan {
        let (initial, max) = (nanos(backoff.initial), nanos(backoff.max));
        let (initial, max) = match backoff.rounding {
            Rounding::None => (initial, max),
            Rounding::WholeSeconds => (whole_seconds_up(initial), whole_seconds_down(max)),
        };
        Plan {
            initial,
            max: larger(initial, max),
            exponent: backoff.exponent,
            jitter: backoff.jitter,
            deadline: match backoff.give_up.after_elapsed {
                None => u64::MAX,
                Some(limit) => nanos(limit),
            },
            retries: match backoff.give_up.after_failures {
                None => u32::MAX,
                Some(limit) => limit.saturating_sub(1),
            },
            rounding: backoff.rounding,
        }
    }

    /// The interval after `previous`, or the first.
    #[inline(always)]
    pub(crate) const fn interval_after(&self, previous: Option<u64>) -> u64 {
        match previous {
            None => self.initial,
            Some(previous) => self.interval_beyond(larger(previous, self.resolution())),
        }
    }

    #[inline(always)]
    const fn interval_beyond(&self, previous: u64) -> u64 {
        const TWO: u64 = 2.0_f64.to_bits();
        if previous >= self.max {
            return if grows(self.exponent) {
                self.max
            } else {
                self.initial
            };
        }
        // Most policies double: first, because it is a fifth of the work.
        let longer = if self.exponent.to_bits() == TWO {
            previous.saturating_mul(2)
        } else if grows(self.exponent) {
            // Growth too small for a nanosecond would stick for ever: take one.
            larger(product(previous, self.exponent), previous + 1)
        } else {
            return self.initial;
        };
        smaller(self.round_up(longer), self.max)
    }

    /// The nanoseconds of which every delay is a multiple.
    #[inline(always)]
    pub(crate) const fn resolution(&self) -> u64 {
        match self.rounding {
            Rounding::None => 1,
            Rounding::WholeSeconds => SECOND,
        }
    }

    /// `nanos` rounded up to the resolution. For anything up to `max` the result is too: `max` is a
    /// multiple.
    #[inline(always)]
    pub(crate) const fn round_up(&self, nanos: u64) -> u64 {
        match self.rounding {
            Rounding::None => nanos,
            Rounding::WholeSeconds => whole_seconds_up(nanos),
        }
    }

    /// The interval after `previous`, and the range from which the delay is drawn.
    #[inline(always)]
    pub(super) const fn spread_after(&self, previous: Option<u64>) -> (u64, Spread) {
        let interval = self.interval_after(previous);
        (interval, self.jitter.spread(interval, self))
    }

    /// The delay to wait after an interval of `previous`, and the interval to remember. A hint of
    /// zero is none.
    #[inline(always)]
    pub(crate) const fn wait_after(&self, previous: Option<u64>, hint: u64, entropy: u64) -> Wait {
        let (interval, spread) = self.spread_after(previous);
        let drawn = self.round_up(spread.draw(entropy));
        let delay = match hint {
            0 => drawn,
            _ => self.round_up(spread.not_before(hint, self.max).draw(entropy)),
        };
        let interval = match self.jitter {
            Jitter::Decorrelated => drawn,
            _ => interval,
        };
        Wait { interval, delay }
    }

    /// Whether any delay is left to chance.
    #[cfg(feature = "std")]
    pub(crate) const fn is_random(&self) -> bool {
        !matches!(self.jitter, Jitter::None)
    }

    /// Why to stop at the `failures`-th failure, `elapsed` after the first, instead of waiting
    /// `delay`.
    #[inline(always)]
    pub(crate) const fn gives_up(
        &self,
        failures: u32,
        elapsed: u64,
        delay: u64,
    ) -> Option<GiveUpReason> {
        if failures > self.retries {
            return Some(GiveUpReason::Failures);
        }
        if self.deadline < u64::MAX {
            // Even a retry without delay is later than a deadline of zero.
            let next = larger(elapsed.saturating_add(delay), 1);
            if next > self.deadline {
                return Some(GiveUpReason::Elapsed);
            }
        }
        None
    }
}
