//! The loop without the loop: what to do after each attempt. Sleeps nowhere, runs nothing.

use std::num::NonZeroU32;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use super::{Consult, Failed, Outcome, StopReason};
use crate::policy::{Backoff, Plan, from_nanos, nanos};
use crate::random;
use crate::state::Exact;

/// Where a loop is: its policy, its streak and its hooks.
///
/// Small, since every future holds one, and cheap to begin: until something fails there is
/// nothing to write but that.
#[derive(Debug)]
pub(super) struct Attempts<K> {
    plan: Plan,
    failing: Option<Failing>,
    pub(super) hooks: K,
}

/// What has failed so far. All times in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Failing {
    failures: NonZeroU32,
    interval: u64,
    began: u64,
    waited: u64,
    seed: u64,
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

/// A failed attempt that another is to follow, and the rest between them.
#[derive(Debug)]
pub struct Resting<E> {
    pub(super) error: E,
    pub(super) rest: Rest,
    /// When it failed, in nanoseconds.
    since: u64,
}

/// How many attempts may follow one another without a delay before one yields. An operation that
/// fails at once must not keep a scheduler from its other work.
const YIELD_EVERY: u32 = 32;

struct Stop {
    reason: StopReason,
    elapsed: Duration,
}

impl<K> Attempts<K> {
    #[inline]
    pub(super) const fn new(policy: &Backoff, hooks: K) -> Attempts<K> {
        Attempts {
            plan: Plan::of(policy),
            failing: None,
            hooks,
        }
    }

    #[inline]
    pub(super) fn with<L>(self, change: impl FnOnce(K) -> L) -> Attempts<L> {
        Attempts {
            plan: self.plan,
            failing: self.failing,
            hooks: change(self.hooks),
        }
    }

    /// How many attempts have failed.
    pub(super) const fn failures(&self) -> u32 {
        match &self.failing {
            None => 0,
            Some(failing) => failing.failures.get(),
        }
    }

    /// What to do after an attempt with this result: rest and try again, or end.
    ///
    /// The rest holds the error, for a loop that is cancelled while it rests.
    #[inline]
    pub(super) fn judge<T, E>(
        &mut self,
        result: Result<T, E>,
    ) -> ControlFlow<Outcome<T, E>, Resting<E>>
    where
        K: Consult<E>,
    {
        match result {
            Ok(value) => Break(self.succeeded(value)),
            Err(error) => match self.failed(&error) {
                Ok((rest, since)) => Continue(Resting { error, rest, since }),
                Err(stop) => Break(self.stopped(error, &stop)),
            },
        }
    }

    /// The end after a success.
    #[inline]
    pub(super) fn succeeded<T, E>(&self, value: T) -> Outcome<T, E>
    where
        K: Consult<E>,
    {
        if let Some(budget) = self.hooks.budget() {
            budget.deposit();
        }
        match &self.failing {
            None => Outcome {
                result: Ok(value),
                attempts: 1,
                waited: Duration::ZERO,
                elapsed: Duration::ZERO,
                stop: StopReason::Succeeded,
            },
            Some(failing) => {
                let elapsed = failing.elapsed(self.hooks.now());
                event::recovered(failing.failures.get(), elapsed);
                Outcome {
                    result: Ok(value),
                    attempts: failing.failures.saturating_add(1).get(),
                    waited: from_nanos(failing.waited),
                    elapsed,
                    stop: StopReason::Succeeded,
                }
            }
        }
    }

    /// The end, where the rest was cut short.
    #[cold]
    pub(super) fn cancelled<T, E>(&mut self, resting: Resting<E>) -> Outcome<T, E>
    where
        K: Consult<E>,
    {
        let Resting { error, rest, since } = resting;
        let now = self.hooks.now();
        let mut elapsed = Duration::ZERO;
        if let Some(failing) = &mut self.failing {
            elapsed = failing.elapsed(now);
            if let Rest::Sleep(delay) = rest {
                let passed = nanos(now).saturating_sub(since);
                let left = nanos(delay).saturating_sub(passed);
                failing.waited = failing.waited.saturating_sub(left);
            }
        }
        let reason = StopReason::Cancelled;
        self.stopped(error, &Stop { reason, elapsed })
    }

    fn stopped<T, E>(&self, error: E, stop: &Stop) -> Outcome<T, E> {
        let failures = self.failures();
        event::gave_up(failures, stop.elapsed, stop.reason);
        Outcome {
            result: Err(error),
            attempts: failures,
            waited: from_nanos(self.failing.map_or(0, |failing| failing.waited)),
            elapsed: stop.elapsed,
            stop: stop.reason,
        }
    }

    /// Counts a failure, decides, and tells: how to rest, and since when. Out of the way of the
    /// success path.
    #[cold]
    fn failed<E>(&mut self, error: &E) -> Result<(Rest, u64), Stop>
    where
        K: Consult<E>,
    {
        let now = self.hooks.now();
        let failing = self.failing.insert(match self.failing {
            // A fresh seed takes a system call.
            None if self.plan.is_random() => Failing::begin(now, self.hooks.seed()),
            None => Failing::begin(now, 0),
            Some(failing) => failing.one_more(),
        });
        let failures = failing.failures.get();
        let elapsed = failing.elapsed(now);

        let mut retry_after = None;
        let decision = if self.hooks.retryable(error) {
            retry_after = self.hooks.hint(error);
            let decision = failing.next(&self.plan, elapsed, retry_after);
            match (decision, self.hooks.budget()) {
                (Ok(_), Some(budget)) if !budget.withdraw() => Err(StopReason::Budget),
                (decision, _) => decision,
            }
        } else {
            Err(StopReason::NotRetryable)
        };
        event::failed(failures, elapsed, decision);

        let delay = decision.map_err(|reason| Stop { reason, elapsed })?;
        failing.waited = failing.waited.saturating_add(nanos(delay));
        self.hooks.tell(&Failed {
            error,
            failures,
            delay,
            elapsed,
            retry_after,
        });
        let rest = if !delay.is_zero() {
            Rest::Sleep(delay)
        } else if failures % YIELD_EVERY == 0 {
            Rest::Yield
        } else {
            Rest::None
        };
        Ok((rest, nanos(now)))
    }
}

impl Failing {
    /// The first failure.
    fn begin(now: Duration, seed: u64) -> Failing {
        Failing {
            failures: NonZeroU32::MIN,
            interval: 0,
            began: nanos(now),
            waited: 0,
            seed,
        }
    }

    /// Another failure.
    fn one_more(mut self) -> Failing {
        self.failures = self.failures.saturating_add(1);
        self
    }

    /// Since the first failure. A clock that ran back has not moved.
    fn elapsed(&self, now: Duration) -> Duration {
        from_nanos(nanos(now).saturating_sub(self.began))
    }

    /// The step.
    fn next(
        &mut self,
        plan: &Plan,
        elapsed: Duration,
        retry_after: Option<Duration>,
    ) -> Result<Duration, StopReason> {
        let before = self.failures.get() - 1;
        let failure = Exact {
            elapsed: nanos(elapsed),
            retry_after: retry_after.map_or(0, nanos),
            entropy: random::draw(self.seed, u64::from(before)),
        };
        let step = plan.step(before, self.interval, failure);
        self.interval = step.interval;
        match step.gave_up {
            None => Ok(from_nanos(step.delay)),
            Some(reason) => Err(StopReason::GaveUp(reason)),
        }
    }
}

/// What is told of a loop under the feature `tracing`.
#[cfg(feature = "tracing")]
mod event {
    use std::time::Duration;

    use crate::retry::StopReason;

    /// Users write it in filters, so it is no path of ours.
    const TARGET: &str = "relent::retry";

    pub(super) fn failed(failures: u32, elapsed: Duration, decision: Result<Duration, StopReason>) {
        let elapsed_ms = millis(elapsed);
        match decision {
            Ok(delay) => {
                let delay_ms = millis(delay);
                tracing::debug!(
                    target: TARGET,
                    failures,
                    delay_ms,
                    elapsed_ms,
                    "attempt failed, will be retried"
                );
            }
            Err(reason) => {
                tracing::debug!(target: TARGET, failures, elapsed_ms, %reason, "attempt failed");
            }
        }
    }

    pub(super) fn recovered(failures: u32, elapsed: Duration) {
        let elapsed_ms = millis(elapsed);
        let reason = StopReason::Succeeded;
        tracing::info!(target: TARGET, failures, elapsed_ms, %reason, "recovered");
    }

    pub(super) fn gave_up(failures: u32, elapsed: Duration, reason: StopReason) {
        // No retry was forgone: it is an error like any other.
        if reason == StopReason::NotRetryable {
            return;
        }
        let elapsed_ms = millis(elapsed);
        tracing::warn!(target: TARGET, failures, elapsed_ms, %reason, "gave up");
    }

    fn millis(duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(not(feature = "tracing"))]
mod event {
    use std::time::Duration;

    use crate::retry::StopReason;

    #[inline]
    pub(super) fn failed(_: u32, _: Duration, _: Result<Duration, StopReason>) {}
    #[inline]
    pub(super) fn recovered(_: u32, _: Duration) {}
    #[inline]
    pub(super) fn gave_up(_: u32, _: Duration, _: StopReason) {}
}
