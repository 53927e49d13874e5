//! The options of a loop: which errors to retry, what hint they hold, who is notified, and so on.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{RetryBudget, sealed};
use crate::clock::{Clock, MonotonicClock};
use crate::random;

/// A failed attempt that will be retried: what `.notify(..)` is called with.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failed<'a, E> {
    /// The attempt's error.
    pub error: &'a E,
    /// How many attempts have failed, this one included: 1 at the first.
    pub failures: u32,
    /// How long the loop is about to wait before the next attempt.
    pub delay: Duration,
    /// The time since the first failure; zero at the first.
    pub elapsed: Duration,
    /// The hint that `.retry_after(..)` found in the error.
    pub retry_after: Option<Duration>,
}

/// Whatever the error is: it is only borrowed.
impl<E> Copy for Failed<'_, E> {}

impl<E> Clone for Failed<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

/// An option that was not set. Takes no space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unset;

/// A closure `FnMut(&A) -> R`, or [`Unset`]. Sealed: no other type is one.
pub trait Hook<A, R>: sealed::Hook<A, R> {
    /// Calls it.
    fn call(&mut self, argument: &A) -> R;
}

impl<A, R, F: FnMut(&A) -> R> Hook<A, R> for F {
    #[inline]
    fn call(&mut self, argument: &A) -> R {
        self(argument)
    }
}

/// Every error is retried.
impl<A> Hook<A, bool> for Unset {
    #[inline]
    fn call(&mut self, _: &A) -> bool {
        true
    }
}

/// No error holds a hint.
impl<A> Hook<A, Option<Duration>> for Unset {
    #[inline]
    fn call(&mut self, _: &A) -> Option<Duration> {
        None
    }
}

/// Nobody is told.
impl<A> Hook<A, ()> for Unset {
    #[inline]
    fn call(&mut self, _: &A) {}
}

/// What lends a [`RetryBudget`]: a `&RetryBudget`, an `Arc` or `Rc` of one, a reference to either,
/// or an `Option` of any of them, of which `None` is no budget. [`Unset`] is none. Sealed: no other
/// type lends one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` lends no `RetryBudget`",
    label = "neither a reference to a budget nor a shared one",
    note = "a budget is shared by many loops: lend this one `&budget`, an `Arc` of it, or an `Option` of either"
)]
pub trait LendsBudget: sealed::LendsBudget {
    /// The budget, if there is one.
    fn budget(&self) -> Option<&RetryBudget>;
}

impl LendsBudget for &RetryBudget {
    #[inline]
    fn budget(&self) -> Option<&RetryBudget> {
        Some(self)
    }
}

impl LendsBudget for Arc<RetryBudget> {
    #[inline]
    fn budget(&self) -> Option<&RetryBudget> {
        Some(self)
    }
}

impl LendsBudget for Rc<RetryBudget> {
    #[inline]
    fn budget(&self) -> Option<&RetryBudget> {
        Some(self)
    }
}

#[diagnostic::do_not_recommend]
impl<L: LendsBudget> LendsBudget for &L {
    #[inline]
    fn budget(&self) -> Option<&RetryBudget> {
        (**self).budget()
    }
}

#[diagnostic::do_not_recommend]
impl<L: LendsBudget> LendsBudget for Option<L> {
    #[inline]
    fn budget(&self) -> Option<&RetryBudget> {
        self.as_ref().and_then(L::budget)
    }
}

impl LendsBudget for Unset {
    #[inline]
    fn budget(&self) -> Option<&RetryBudget> {
        None
    }
}

/// A seed, or [`Unset`]: a fresh one for each loop that fails. Sealed: no other type is one.
pub trait Seed: sealed::Seed {
    /// The seed.
    fn seed(&self) -> u64;
}

impl Seed for u64 {
    #[inline]
    fn seed(&self) -> u64 {
        *self
    }
}

impl Seed for Unset {
    #[inline]
    fn seed(&self) -> u64 {
        random::seed()
    }
}

/// The options that every loop has, as [`Retry`](super::Retry) sets them.
#[derive(Default)]
pub struct Hooks<W = Unset, H = Unset, N = Unset, B = Unset, C = MonotonicClock, S = Unset> {
    pub(super) when: W,
    pub(super) retry_after: H,
    pub(super) notify: N,
    pub(super) budget: B,
    pub(super) clock: C,
    pub(super) seed: S,
}

/// The bounds on all six options in one: options that fit an operation whose error is `E`.
///
/// Sealed: only [`Hooks`] implements it.
pub trait Consult<E>: sealed::Consult {
    #[doc(hidden)]
    fn retryable(&mut self, error: &E) -> bool;
    #[doc(hidden)]
    fn hint(&mut self, error: &E) -> Option<Duration>;
    #[doc(hidden)]
    fn tell(&mut self, failed: &Failed<'_, E>);
    #[doc(hidden)]
    fn budget(&self) -> Option<&RetryBudget>;
    #[doc(hidden)]
    fn now(&self) -> Duration;
    #[doc(hidden)]
    fn seed(&self) -> u64;
}

impl<E, W, H, N, B, C, S> Consult<E> for Hooks<W, H, N, B, C, S>
where
    W: Hook<E, bool>,
    H: Hook<E, Option<Duration>>,
    N: for<'a> Hook<Failed<'a, E>, ()>,
    B: LendsBudget,
    C: Clock,
    S: Seed,
{
    #[inline]
    fn retryable(&mut self, error: &E) -> bool {
        self.when.call(error)
    }

    #[inline]
    fn hint(&mut self, error: &E) -> Option<Duration> {
        self.retry_after.call(error)
    }

    #[inline]
    fn tell(&mut self, failed: &Failed<'_, E>) {
        self.notify.call(failed);
    }

    #[inline]
    fn budget(&self) -> Option<&RetryBudget> {
        self.budget.budget()
    }

    #[inline]
    fn now(&self) -> Duration {
        self.clock.now()
    }

    #[inline]
    fn seed(&self) -> u64 {
        self.seed.seed()
    }
}

/// Closures have nothing to show.
impl<W, H, N, B, C, S> fmt::Debug for Hooks<W, H, N, B, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}
