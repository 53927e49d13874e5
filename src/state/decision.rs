//! The step: the one place where a policy, a state and a failure become a decision.

use core::fmt;
use core::time::Duration;

use super::BackoffState;
use crate::policy::{Backoff, Brief, GiveUpReason, Plan, Rounding, from_nanos, nanos};

/// One more failure, as the step needs to know it.
///
/// ```
/// use relent::Failure;
/// use std::time::Duration;
///
/// let first = Failure::new(0x1234_5678_9abc_def0);
/// let later = first.elapsed(Duration::from_secs(20)).retry_after(Duration::from_secs(5));
/// # let _ = later;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// The time since the first failure of the streak; zero for the first.
    pub elapsed: Duration,
    /// A server's hint: do not come back sooner.
    pub retry_after: Option<Duration>,
    /// 64 uniform random bits: all the randomness there is.
    pub entropy: u64,
}

impl Failure {
    /// The first failure of a streak, without a hint.
    #[must_use]
    pub const fn new(entropy: u64) -> Failure {
        Failure {
            elapsed: Duration::ZERO,
            retry_after: None,
            entropy,
        }
    }

    /// The same failure, `elapsed` after the first of its streak.
    #[must_use]
    pub const fn elapsed(mut self, elapsed: Duration) -> Failure {
        self.elapsed = elapsed;
        self
    }

    /// The same failure with a server's hint.
    #[must_use]
    pub const fn retry_after(mut self, hint: Duration) -> Failure {
        self.retry_after = Some(hint);
        self
    }
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Try again.
    Retry {
        /// The delay to wait before that.
        after: Duration,
    },
    /// Stop.
    GiveUp(GiveUpReason),
}

impl Decision {
    /// The delay before the next attempt, unless this is the end.
    #[must_use]
    pub const fn delay(self) -> Option<Duration> {
        match self {
            Decision::Retry { after } => Some(after),
            Decision::GiveUp(_) => None,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Decision::Retry { after } => write!(f, "retry after {}", Brief(after)),
            Decision::GiveUp(reason) => write!(f, "give up: {reason}"),
        }
    }
}

impl Backoff {
    /// The step: counts one more failure in `state` and decides what to do about it.
    ///
    /// Every loop, tracker and store of this crate obeys this one function. It reads no clock,
    /// draws no randomness and does no I/O: the same arguments give the same decision, at compile
    /// time as at run time, on every platform.
    ///
    /// - The interval grows as [`interval_after`](Self::interval_after) says, and is kept in
    ///   `state`. Where `state` counts failures but its interval is zero, that is not known, and
    ///   the next is `initial`.
    /// - The delay is drawn from it as [`jitter`](Self::jitter) says, by `failure.entropy`.
    /// - A hint shifts the range from which the delay is drawn: it then begins at the hint, is as
    ///   wide as before, and is cut at `max`. For a hint of `max` or more it ends at `max` instead,
    ///   and begins no lower than half of `max`. A hint never makes a delay shorter.
    /// - Where `max` leaves less room above a hint than the range is wide, that room is all the
    ///   spread there is: let `max` exceed the hints you expect.
    /// - In whole seconds, the draw is rounded up last.
    /// - A limit may turn all that into [`Decision::GiveUp`]. The failure counts in `state` all the
    ///   same.
    ///
    /// `state` does not remember giving up: asked again, the step decides anew. The loops, the
    /// tracker and the stores do remember it.
    ///
    /// ```
    /// use relent::{Backoff, BackoffState, Decision, Failure, GiveUpReason, Jitter};
    /// use std::time::Duration;
    ///
    /// # #[cfg(feature = "std")]
    /// # {
    /// const POLICY: Backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60))
    ///     .jitter(Jitter::None)
    ///     .give_up_after_failures(3);
    ///
    /// let mut state = BackoffState::default();
    /// let failure = Failure::new(relent::random::seed());
    /// assert_eq!(POLICY.next(&mut state, failure), Decision::Retry { after: Duration::from_secs(1) });
    /// assert_eq!(POLICY.next(&mut state, failure), Decision::Retry { after: Duration::from_secs(2) });
    /// assert_eq!(POLICY.next(&mut state, failure), Decision::GiveUp(GiveUpReason::Failures));
    /// assert_eq!(state.failures, 3);
    /// # }
    /// ```
    #[must_use = "the decision says how long to wait, or to give up"]
    #[inline(always)]
    pub const fn next(&self, state: &mut BackoffState, failure: Failure) -> Decision {
        // Whole seconds are rare, and a good part of the work: where it is not known that there are
        // none, they stand aside.
        match self.rounding {
            Rounding::None => self.next_inlined(state, failure),
            Rounding::WholeSeconds => self.next_in_whole_seconds(state, failure),
        }
    }

    #[inline(never)]
    const fn next_in_whole_seconds(&self, state: &mut BackoffState, failure: Failure) -> Decision {
        self.next_inlined(state, failure)
    }

    #[inline(always)]
    const fn next_inlined(&self, state: &mut BackoffState, failure: Failure) -> Decision {
        let step = Plan::of(self).step(
            state.failures,
            nanos(state.interval),
            Exact {
                elapsed: nanos(failure.elapsed),
                retry_after: match failure.retry_after {
                    None => 0,
                    Some(hint) => nanos(hint),
                },
                entropy: failure.entropy,
            },
        );
        state.failures = step.failures;
        state.interval = from_nanos(step.interval);
        match step.gave_up {
            None => Decision::Retry {
                after: from_nanos(step.delay),
            },
            Some(reason) => Decision::GiveUp(reason),
        }
    }
}

/// A [`Failure`] in nanoseconds, for whoever counts in them anyway. A hint of zero is none.
#[derive(Clone, Copy)]
pub(crate) struct Exact {
    pub(crate) elapsed: u64,
    pub(crate) retry_after: u64,
    pub(crate) entropy: u64,
}

/// What [`Plan::step`] comes to, in nanoseconds.
pub(crate) struct Step {
    pub(crate) failures: u32,
    pub(crate) interval: u64,
    /// How long to wait, unless it gave up.
    pub(crate) delay: u64,
    pub(crate) gave_up: Option<GiveUpReason>,
}

impl Plan {
    /// [`Backoff::next`] on plain numbers: one more failure, after so many of them and an interval
    /// of so many nanoseconds.
    #[inline(always)]
    pub(crate) const fn step(&self, failures: u32, interval: u64, failure: Exact) -> Step {
        let previous = match (failures, interval) {
            (0, _) => None,
            // A column that was added later, or too coarse: nothing is known of the interval.
            (_, 0) if self.initial > 0 => None,
            _ => Some(interval),
        };
        let wait = self.wait_after(previous, failure.retry_after, failure.entropy);
        let failures = failures.saturating_add(1);
        Step {
            failures,
            interval: wait.interval,
            delay: wait.delay,
            gave_up: self.gives_up(failures, failure.elapsed, wait.delay),
        }
    }
}
