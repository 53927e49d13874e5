//! What is nonsense in a policy, in words that help.

use core::fmt;
use core::time::Duration;

use super::interval::nanos;
use super::plan::Plan;
use super::{Backoff, Jitter, Rounding};

/// A policy that contradicts itself. Lists every [`Problem`], not only the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InvalidBackoff {
    backoff: Backoff,
}

/// One thing wrong with a policy. Its `Display` names the field, the value and the remedy.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Problem {
    /// The exponent is not a number.
    ExponentNotANumber,
    /// The exponent is negative, or between 0 and 1: intervals would shrink. (0 itself is "unset".)
    ExponentBelowOne(f64),
    /// `max` is less than `initial`.
    MaxBelowInitial {
        /// [`Backoff::initial`].
        initial: Duration,
        /// [`Backoff::max`].
        max: Duration,
    },
    /// In whole seconds, no delay is at least `initial` and at most `max`.
    NoWholeSecond {
        /// [`Backoff::initial`].
        initial: Duration,
        /// [`Backoff::max`].
        max: Duration,
    },
    /// The interval is to grow, but from zero: it takes some thirty retries to reach a second.
    GrowthFromZero,
    /// The proportion of [`Jitter::Proportional`] is not within 0..=1.
    ProportionOutOfRange(f64),
}

impl InvalidBackoff {
    pub(crate) const fn of(backoff: &Backoff) -> Result<(), InvalidBackoff> {
        match problems(backoff) {
            [None, None, None, None] => Ok(()),
            _ => Err(InvalidBackoff { backoff: *backoff }),
        }
    }

    /// All that is wrong, at least one thing.
    pub fn problems(&self) -> impl Iterator<Item = Problem> + use<> {
        problems(&self.backoff).into_iter().flatten()
    }
}

const fn problems(backoff: &Backoff) -> [Option<Problem>; 4] {
    [
        exponent(backoff),
        bounds(backoff),
        growth(backoff),
        jitter(backoff),
    ]
}

const fn exponent(backoff: &Backoff) -> Option<Problem> {
    const UNSET: f64 = 0.0;
    let exponent = backoff.exponent;
    if exponent.is_nan() {
        Some(Problem::ExponentNotANumber)
    } else if exponent < 1.0 && exponent != UNSET {
        Some(Problem::ExponentBelowOne(exponent))
    } else {
        None
    }
}

const fn bounds(backoff: &Backoff) -> Option<Problem> {
    let Backoff { initial, max, .. } = *backoff;
    let plan = Plan::of(backoff);
    if nanos(max) < nanos(initial) {
        Some(Problem::MaxBelowInitial { initial, max })
    } else if plan.max > nanos(max) && !max.is_zero() {
        Some(Problem::NoWholeSecond { initial, max })
    } else {
        None
    }
}

const fn growth(backoff: &Backoff) -> Option<Problem> {
    let grows = backoff.exponent > 1.0 && !backoff.max.is_zero();
    match backoff.rounding {
        Rounding::None if grows && backoff.initial.is_zero() => Some(Problem::GrowthFromZero),
        _ => None,
    }
}

const fn jitter(backoff: &Backoff) -> Option<Problem> {
    match backoff.jitter {
        Jitter::Proportional(f) if !(f >= 0.0 && f <= 1.0) => {
            Some(Problem::ProportionOutOfRange(f))
        }
        _ => None,
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::ExponentNotANumber => {
                f.write_str("exponent: NaN is not a number; use 1 for a steady interval, 2 to double it")
            }
            Problem::ExponentBelowOne(exponent) => {
                write!(f, "exponent: {exponent} is below 1; use 1 for a steady interval, 2 to double it")
            }
            Problem::MaxBelowInitial { initial, max } => {
                write!(f, "max: {max:?} is below initial ({initial:?}); raise max or lower initial")
            }
            Problem::NoWholeSecond { initial, max } => write!(
                f,
                "max: no delay of whole seconds is at least initial ({initial:?}) and at most max ({max:?}); \
                 raise max, or do not round to whole seconds"
            ),
            Problem::GrowthFromZero => f.write_str(
                "initial: 0s cannot grow; use the shortest wait that makes sense, or exponent 1 to never wait",
            ),
            Problem::ProportionOutOfRange(proportion) => {
                write!(f, "jitter: proportional {proportion} is not within 0 to 1; use 0.5 for ±50 %")
            }
        }
    }
}

impl fmt::Display for InvalidBackoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid backoff policy: ")?;
        for (n, problem) in self.problems().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl core::error::Error for InvalidBackoff {}
