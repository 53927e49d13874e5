//! A policy in two thirds of the space, for those that carry one with each operation.

use super::{Backoff, GiveUp, Jitter, Rounding, from_nanos, nanos};

/// A [`Backoff`] in whole nanoseconds, which is all that the arithmetic ever sees of it.
///
/// 56 bytes instead of 88: a future that holds one is held, and moved, by its caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed {
    initial: u64,
    max: u64,
    exponent: f64,
    jitter: Jitter,
    /// `u64::MAX` is never: no loop lives for 584 years.
    after_elapsed: u64,
    /// 0 is never: as a limit it would mean 1.
    after_failures: u32,
    rounding: Rounding,
}

impl Packed {
    #[inline]
    pub(crate) const fn new(backoff: &Backoff) -> Packed {
        Packed {
            initial: nanos(backoff.initial),
            max: nanos(backoff.max),
            exponent: backoff.exponent,
            jitter: backoff.jitter,
            after_elapsed: match backoff.give_up.after_elapsed {
                None => u64::MAX,
                Some(limit) => nanos(limit),
            },
            after_failures: match backoff.give_up.after_failures {
                None => 0,
                Some(0) => 1,
                Some(limit) => limit,
            },
            rounding: backoff.rounding,
        }
    }

    #[inline]
    pub(crate) const fn unpack(&self) -> Backoff {
        Backoff {
            initial: from_nanos(self.initial),
            max: from_nanos(self.max),
            exponent: self.exponent,
            jitter: self.jitter,
            rounding: self.rounding,
            give_up: GiveUp {
                after_failures: match self.after_failures {
                    0 => None,
                    limit => Some(limit),
                },
                after_elapsed: match self.after_elapsed {
                    u64::MAX => None,
                    limit => Some(from_nanos(limit)),
                },
            },
        }
    }
}
