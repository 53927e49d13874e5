//! The loop without the loop: what to do after each attempt. Sleeps nowhere, runs nothing.

use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use super::{Consult, Failed, Outcome, StopReason};
use crate::policy::{Backoff, Packed, from_nanos, nanos};
use crate::random;
use crate::state::{BackoffState, Decision, Failure};

/// Where a loop is: its policy, its streak and its hooks. All times in nanoseconds.
///
/// Small, since every future holds one; and nothing in it costs anything before the first failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempts<K> {
    policy: Packed,
    interval: u64,
    first_failure: u64,
    waited: u64,
    seed: u64,
    seeded: bool,
    failures: u32,
    pub(super) hooks: K,
}

/// What to do before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing: a timer of zero would cost a millisecond.
    None,
    /// Let others run, then nothing.
    Yield,
    /// Wait.
    Sleep(Duration),
}

/// Of so many attempts in a row that rest for nothing, one yields. An operation that fails at once
/// must not keep a scheduler from its other work.
const YIELD_EVERY: u32 = 32;

struct Stop {
    reason: StopReason,
    elapsed: u64,
}

impl<K> Attempts<K> {
    #[inline]
    pub(super) const fn new(policy: &Backoff, hooks: K) -> Attempts<K> {
        Attempts {
            policy: Packed::new(policy),
            interval: 0,
            first_failure: 0,
            waited: 0,
            seed: 0,
            seeded: false,
            failures: 0,
            hooks,
        }
    }

    #[inline]
    pub(super) fn seed(mut self, seed: u64) -> Attempts<K> {
        self.seed = seed;
        self.seeded = true;
        self
    }

    #[inline]
    pub(super) fn with<L>(self, change: impl FnOnce(K) -> L) -> Attempts<L> {
        Attempts {
            policy: self.policy,
            interval: self.interval,
            first_failure: self.first_failure,
            waited: self.waited,
            seed: self.seed,
            seeded: self.seeded,
            failures: self.failures,
            hooks: change(self.hooks),
        }
    }

    /// How many attempts have failed.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// What to do after an attempt with this result: rest and try again, or end.
    ///
    /// Gives the error back with the rest, for whoever cannot finish it.
    #[inline]
    pub(super) fn judge<T, E>(
        &mut self,
        result: Result<T, E>,
    ) -> ControlFlow<Outcome<T, E>, (E, Rest)>
    where
        K: Consult<E>,
    {
        match result {
            Ok(value) => Break(self.succeeded(value)),
            Err(error) => match self.failed(&error) {
                Ok(rest) => Continue((error, rest)),
                Err(stop) => Break(self.stopped(error, &stop)),
            },
        }
    }

    /// The end, if the rest was cut short.
    pub(super) fn cancelled<T, E>(&mut self, error: E, rest: Rest) -> Outcome<T, E>
    where
        K: Consult<E>,
    {
        if let Rest::Sleep(delay) = rest {
            self.waited = self.waited.saturating_sub(nanos(delay));
        }
        let stop = Stop {
            reason: StopReason::Cancelled,
            elapsed: self.elapsed(),
        };
        self.stopped(error, &stop)
    }

    #[inline]
    fn succeeded<T, E>(&mut self, value: T) -> Outcome<T, E>
    where
        K: Consult<E>,
    {
        if let Some(budget) = self.hooks.budget() {
            budget.deposit();
        }
        let elapsed = if self.failures == 0 {
            0
        } else {
            let elapsed = self.elapsed();
            event::recovered(self.failures, elapsed);
            elapsed
        };
        Outcome {
            result: Ok(value),
            attempts: self.failures.saturating_add(1),
            waited: from_nanos(self.waited),
            elapsed: from_nanos(elapsed),
            stop: StopReason::Succeeded,
        }
    }

    fn stopped<T, E>(&self, error: E, stop: &Stop) -> Outcome<T, E> {
        event::gave_up(self.failures, stop.elapsed, stop.reason);
        Outcome {
            result: Err(error),
            attempts: self.failures,
            waited: from_nanos(self.waited),
            elapsed: from_nanos(stop.elapsed),
            stop: stop.reason,
        }
    }

    /// Counts a failure, decides, and tells. Out of the way of the success path.
    #[cold]
    fn failed<E>(&mut self, error: &E) -> Result<Rest, Stop>
    where
        K: Consult<E>,
    {
        if self.failures == 0 {
            self.first_failure = nanos(Consult::<E>::now(&self.hooks));
            if !self.seeded {
                self.seed = random::seed();
                self.seeded = true;
            }
        }
        let elapsed = self.elapsed();
        let (decision, retry_after) = self.decide(error, elapsed);
        event::failed(self.failures, elapsed, decision);
        let delay = decision.map_err(|reason| Stop { reason, elapsed })?;
        self.waited = self.waited.saturating_add(nanos(delay));
        self.hooks.tell(&Failed {
            error,
            failures: self.failures,
            delay,
            elapsed: from_nanos(elapsed),
            retry_after,
        });
        Ok(if !delay.is_zero() {
            Rest::Sleep(delay)
        } else if self.failures % YIELD_EVERY == 0 {
            Rest::Yield
        } else {
            Rest::None
        })
    }

    /// The step, between the error's own objection and the budget's.
    #[inline]
    fn decide<E>(
        &mut self,
        error: &E,
        elapsed: u64,
    ) -> (Result<Duration, StopReason>, Option<Duration>)
    where
        K: Consult<E>,
    {
        if !self.hooks.retryable(error) {
            self.failures = self.failures.saturating_add(1);
            return (Err(StopReason::NotRetryable), None);
        }
        let retry_after = self.hooks.hint(error);
        let failure = Failure {
            elapsed: from_nanos(elapsed),
            retry_after,
            entropy: random::draw(self.seed, u64::from(self.failures)),
        };
        let mut state = BackoffState {
            failures: self.failures,
            interval: from_nanos(self.interval),
        };
        let decision = self.policy.unpack().next(&mut state, failure);
        self.failures = state.failures;
        self.interval = nanos(state.interval);
        let verdict = match decision {
            Decision::GiveUp(reason) => Err(StopReason::GaveUp(reason)),
            Decision::Retry { after } => match self.hooks.budget() {
                Some(budget) if !budget.withdraw() => Err(StopReason::Budget),
                _ => Ok(after),
            },
        };
        (verdict, retry_after)
    }

    /// Since the first failure. A clock that ran back has not moved.
    fn elapsed<E>(&self) -> u64
    where
        K: Consult<E>,
    {
        nanos(self.hooks.now()).saturating_sub(self.first_failure)
    }
}

/// What is told of a loop under the feature `tracing`.
#[cfg(feature = "tracing")]
mod event {
    use std::time::Duration;

    use crate::retry::StopReason;

    pub(super) fn failed(failures: u32, elapsed: u64, decision: Result<Duration, StopReason>) {
        let elapsed_ms = elapsed / NANOS_PER_MS;
        match decision {
            Ok(delay) => {
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                tracing::debug!(
                    failures,
                    delay_ms,
                    elapsed_ms,
                    "attempt failed, will be retried"
                );
            }
            Err(_) => tracing::debug!(failures, elapsed_ms, "attempt failed"),
        }
    }

    pub(super) fn recovered(failures: u32, elapsed: u64) {
        let elapsed_ms = elapsed / NANOS_PER_MS;
        tracing::info!(failures, elapsed_ms, reason = %StopReason::Succeeded, "recovered");
    }

    pub(super) fn gave_up(failures: u32, elapsed: u64, reason: StopReason) {
        let elapsed_ms = elapsed / NANOS_PER_MS;
        tracing::warn!(failures, elapsed_ms, %reason, "gave up");
    }

    const NANOS_PER_MS: u64 = 1_000_000;
}

#[cfg(not(feature = "tracing"))]
mod event {
    use std::time::Duration;

    use crate::retry::StopReason;

    #[inline]
    pub(super) fn failed(_: u32, _: u64, _: Result<Duration, StopReason>) {}
    #[inline]
    pub(super) fn recovered(_: u32, _: u64) {}
    #[inline]
    pub(super) fn gave_up(_: u32, _: u64, _: StopReason) {}
}
