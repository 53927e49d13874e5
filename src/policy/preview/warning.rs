//! What a policy may say, and a person regret.

use core::fmt;
use core::time::Duration;

use super::Walk;
use crate::policy::{Backoff, Jitter, Plan, Rounding, from_nanos};

/// Something that a policy is allowed to say, and a person may regret.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// No interval of a streak whose delays are all mean reaches `max`: the policy gives up before,
    /// or does not grow as far within 10 000 failures.
    MaxNeverReached {
        /// [`Backoff::max`].
        max: Duration,
        /// The longest interval of such a streak.
        longest: Duration,
    },
    /// The limit on elapsed time can pass before the first retry.
    DeadlineBeforeFirstRetry {
        /// [`GiveUp::after_elapsed`](crate::GiveUp::after_elapsed).
        deadline: Duration,
        /// The longest first delay.
        first: Duration,
    },
    /// Clients that fail together return together, or nearly.
    Herd(Jitter),
    /// [`Jitter::Decorrelated`] with an exponent by which it does not back off.
    Standstill {
        /// [`Backoff::exponent`].
        exponent: f64,
    },
    /// In whole seconds, the first delay takes only this many values: whole herds share each.
    CoarseSeconds {
        /// How many different first delays there are.
        choices: u64,
    },
}

impl Warning {
    /// All that there is to say of `backoff`, most serious first.
    pub(super) fn all(backoff: &Backoff) -> impl Iterator<Item = Warning> + use<> {
        let waits = Walk::new(backoff).next().is_some();
        // Whatever never waits has nothing to warn of, but a deadline may be why.
        let checks = [
            deadline(backoff),
            standstill(backoff).filter(|_| waits),
            herd(backoff.jitter).filter(|_| waits),
            coarse(backoff).filter(|_| waits),
            max(backoff).filter(|_| waits),
        ];
        checks.into_iter().flatten()
    }
}

fn deadline(backoff: &Backoff) -> Option<Warning> {
    let deadline = backoff.give_up.after_elapsed?;
    let plan = Plan::of(backoff);
    let (_, first) = plan.spread_after(None);
    let first = from_nanos(plan.round_up(first.longest));
    (plan.retries > 0 && first > deadline)
        .then_some(Warning::DeadlineBeforeFirstRetry { deadline, first })
}

fn herd(jitter: Jitter) -> Option<Warning> {
    // A quarter either way leaves half of each interval to a whole herd.
    const NARROW: f64 = 0.25;
    let spreads = match jitter {
        Jitter::None | Jitter::Decorrelated => false,
        Jitter::Proportional(f) => f >= NARROW,
        Jitter::Full | Jitter::Equal => true,
    };
    (!spreads).then_some(Warning::Herd(jitter))
}

fn standstill(backoff: &Backoff) -> Option<Warning> {
    // A draw from 0 to `exponent` times the last changes its logarithm by ln(exponent) - 1 in the
    // mean.
    const BREAK_EVEN: f64 = core::f64::consts::E;
    let exponent = backoff.exponent;
    (backoff.jitter == Jitter::Decorrelated && exponent < BREAK_EVEN)
        .then_some(Warning::Standstill { exponent })
}

fn coarse(backoff: &Backoff) -> Option<Warning> {
    const FEW: u64 = 10;
    let plan = Plan::of(backoff);
    let (_, first) = plan.spread_after(None);
    let range = plan.round_up(first.longest) - plan.round_up(first.shortest);
    let choices = range / plan.resolution() + 1;
    let coarse = backoff.rounding == Rounding::WholeSeconds
        && !matches!(backoff.jitter, Jitter::None | Jitter::Decorrelated);
    (coarse && choices < FEW).then_some(Warning::CoarseSeconds { choices })
}

fn max(backoff: &Backoff) -> Option<Warning> {
    // Whoever has failed so often wonders about other things.
    const OFTEN: usize = 10_000;
    let Backoff { max, exponent, .. } = backoff.normalized();
    let longest = Walk::new(backoff).take(OFTEN).last()?.interval;
    (exponent > 1.0 && longest < max).then_some(Warning::MaxNeverReached { max, longest })
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::MaxNeverReached { max, longest } => {
                write!(f, "max ({max:?}) is not reached by mean delays; the longest interval is {longest:?}")
            }
            Warning::DeadlineBeforeFirstRetry { deadline, first } => {
                write!(f, "the time to give up ({deadline:?}) can pass before the first retry (up to {first:?})")
            }
            Warning::Herd(Jitter::Decorrelated) => {
                f.write_str("decorrelated jitter leaves the first delay as it is: a herd returns together once")
            }
            Warning::Herd(_) => {
                f.write_str("with so little jitter, clients that fail together return together; full spreads them best")
            }
            Warning::Standstill { exponent } => {
                write!(f, "decorrelated jitter does not back off by an exponent of {exponent}: most delays stay near initial; use 3 or more")
            }
            Warning::CoarseSeconds { choices: 1 } => {
                f.write_str("in whole seconds there is only one first delay, which a whole herd shares; do not round, or start later")
            }
            Warning::CoarseSeconds { choices } => {
                write!(f, "in whole seconds there are only {choices} different first delays, which a whole herd shares; do not round, or start later")
            }
        }
    }
}
