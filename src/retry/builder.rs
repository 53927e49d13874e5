//! The loop as a value: what all colours share.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use pin_project_lite::pin_project;

use super::attempts::Attempts;
use super::{Failed, Hooks, LendsBudget};
use crate::clock::Clock;
use crate::policy::Backoff;

pin_project! {
    /// A loop that has not begun: an operation, a policy, and options.
    ///
    /// `Run` is how it runs: [`Blocking`](super::Blocking), [`Async`](super::Async) (this is then
    /// the future itself), or [`AsyncMut`](super::AsyncMut). `E` is the operation's error, and `K`
    /// holds the options.
    ///
    /// What happens at a failure, in this order:
    ///
    /// 1. The clock is read, for limits on elapsed time. That counts from the first *failure*: how
    ///    long the first attempt took does not matter.
    /// 2. [`when`](Self::when) may end it.
    /// 3. [`retry_after`](Self::retry_after) may lengthen the delay.
    /// 4. The policy decides: the same step, and to the nanosecond the same delays, as everywhere
    ///    in this crate.
    /// 5. [`budget`](Self::budget) may refuse.
    /// 6. [`notify`](Self::notify) is called.
    /// 7. The loop waits for the delay. A delay of zero sets no timer; in a long row of them, an
    ///    async loop lets other tasks run now and then.
    ///
    /// A success at the first attempt costs nothing besides the operation and a look at the budget,
    /// if there is one: no clock is read, no randomness drawn, nothing allocated.
    #[must_use = "nothing runs before `.call()`, `.await` or `.run()`"]
    pub struct Retry<Run, E, K = Hooks> {
        pub(super) attempts: Attempts<K>,
        #[pin]
        pub(super) run: Run,
        error: PhantomData<fn() -> E>,
    }
}

impl<Run, E, K> Retry<Run, E, K> {
    #[inline]
    pub(super) const fn new(policy: &Backoff, run: Run, hooks: K) -> Retry<Run, E, K> {
        Retry {
            attempts: Attempts::new(policy, hooks),
            run,
            error: PhantomData,
        }
    }

    #[inline]
    fn with<L>(self, change: impl FnOnce(K) -> L) -> Retry<Run, E, L> {
        Retry {
            attempts: self.attempts.with(change),
            run: self.run,
            error: PhantomData,
        }
    }

    #[inline]
    pub(super) fn map_run<R>(self, change: impl FnOnce(Run) -> R) -> Retry<R, E, K> {
        Retry {
            attempts: self.attempts,
            run: change(self.run),
            error: PhantomData,
        }
    }
}

/// Options of every loop. Setting one again replaces it.
impl<Run, E, W, H, N, B, C, S> Retry<Run, E, Hooks<W, H, N, B, C, S>> {
    /// Retries only the errors for which `retryable` returns true; any other ends the loop at once.
    ///
    /// Without it every error is retried.
    ///
    /// ```
    /// use relent::Backoff;
    /// use std::io::{self, ErrorKind};
    ///
    /// let missing = Backoff::DEFAULT
    ///     .retry(|| std::fs::read("no such file"))
    ///     .when(|error| error.kind() == ErrorKind::Interrupted)
    ///     .call();
    /// assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    /// ```
    #[inline]
    pub fn when<F>(self, retryable: F) -> Retry<Run, E, Hooks<F, H, N, B, C, S>>
    where
        F: FnMut(&E) -> bool,
    {
        self.with(|k| Hooks {
            when: retryable,
            retry_after: k.retry_after,
            notify: k.notify,
            budget: k.budget,
            clock: k.clock,
            seed: k.seed,
        })
    }

    /// Waits at least as long as `hint` finds in an error that a server asked for.
    ///
    /// The wait is spread as the policy's are, since clients that were told together must not
    /// return together. It never exceeds the policy's `max`: where the server asks for that or
    /// more, it is between half of `max` and `max`. So let `max` exceed what servers ask for. Every
    /// limit still holds.
    #[inline]
    pub fn retry_after<F>(self, hint: F) -> Retry<Run, E, Hooks<W, F, N, B, C, S>>
    where
        F: FnMut(&E) -> Option<Duration>,
    {
        self.with(|k| Hooks {
            when: k.when,
            retry_after: hint,
            notify: k.notify,
            budget: k.budget,
            clock: k.clock,
            seed: k.seed,
        })
    }

    /// Calls `notify` for each failure that will be retried, before the wait.
    ///
    /// Not for the last one, which is the loop's result, unless it was the wait that was cancelled.
    #[inline]
    pub fn notify<F>(self, notify: F) -> Retry<Run, E, Hooks<W, H, F, B, C, S>>
    where
        F: FnMut(&Failed<'_, E>),
    {
        self.with(|k| Hooks {
            when: k.when,
            retry_after: k.retry_after,
            notify,
            budget: k.budget,
            clock: k.clock,
            seed: k.seed,
        })
    }

    /// Retries only while `budget` lasts, which other loops share. See
    /// [`RetryBudget`](super::RetryBudget).
    ///
    /// Takes a `&RetryBudget`, be it to a `static`, or an `Arc` of one, or an `Option` of either,
    /// in which `None` is no budget. See [`LendsBudget`].
    #[inline]
    pub fn budget<L>(self, budget: L) -> Retry<Run, E, Hooks<W, H, N, L, C, S>>
    where
        L: LendsBudget,
    {
        self.with(|k| Hooks {
            when: k.when,
            retry_after: k.retry_after,
            notify: k.notify,
            budget,
            clock: k.clock,
            seed: k.seed,
        })
    }

    /// Measures elapsed time by another clock. It is not read before something has failed.
    ///
    /// The clock does not move the waits: see `.sleep(..)`.
    #[inline]
    pub fn clock<D: Clock>(self, clock: D) -> Retry<Run, E, Hooks<W, H, N, B, D, S>> {
        self.with(|k| Hooks {
            when: k.when,
            retry_after: k.retry_after,
            notify: k.notify,
            budget: k.budget,
            clock,
            seed: k.seed,
        })
    }

    /// Draws the jitter from `seed`, as [`schedule_seeded`](Backoff::schedule_seeded) does: for
    /// tests, and for replaying what happened.
    ///
    /// Without it every loop draws its own seed, at its first failure.
    #[inline]
    pub fn seed(self, seed: u64) -> Retry<Run, E, Hooks<W, H, N, B, C, u64>> {
        self.with(|k| Hooks {
            when: k.when,
            retry_after: k.retry_after,
            notify: k.notify,
            budget: k.budget,
            clock: k.clock,
            seed,
        })
    }
}

/// Closures have nothing to show; the streak has.
impl<Run, E, K> fmt::Debug for Retry<Run, E, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("failures", &self.attempts.failures())
            .finish_non_exhaustive()
    }
}
