//! What a loop asks and tells: which errors, what hint, whose budget, what time.

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use super::RetryBudget;
use crate::clock::{Clock, MonotonicClock};

/// A failed attempt that will be retried, as `.notify(..)` is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failed<'a, E> {
    /// The attempt's error.
    pub error: &'a E,
    /// How many attempts have failed, this one included: 1 at the first.
    pub failures: u32,
    /// How long the loop waits now, before the next attempt.
    pub delay: Duration,
    /// Since the first failure; zero at the first.
    pub elapsed: Duration,
    /// The hint that `.retry_after(..)` found in the error.
    pub retry_after: Option<Duration>,
}

/// The option that was not set: of no size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unset;

/// A closure `FnMut(&A) -> R`, or [`Unset`].
pub trait Hook<A, R> {
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

/// Whatever lends a [`RetryBudget`] (`&RetryBudget`, `Arc<RetryBudget>`), or [`Unset`].
pub trait Limit {
    /// The budget, if there is one.
    fn budget(&self) -> Option<&RetryBudget>;
}

impl<B: Borrow<RetryBudget>> Limit for B {
    #[inline]
    fn budget(&self) -> Option<&RetryBudget> {
        Some(self.borrow())
    }
}

impl Limit for Unset {
    #[inline]
    fn budget(&self) -> Option<&RetryBudget> {
        None
    }
}

/// The options that every loop has, as [`Retry`](super::Retry) sets them.
#[derive(Clone, Copy, Default)]
pub struct Hooks<W = Unset, H = Unset, N = Unset, B = Unset, C = MonotonicClock> {
    pub(super) when: W,
    pub(super) retry_after: H,
    pub(super) notify: N,
    pub(super) budget: B,
    pub(super) clock: C,
}

/// Five bounds by one name: what a loop asks and tells about errors of type `E`.
///
/// Only [`Hooks`] implements it.
pub trait Consult<E>: sealed::Sealed {
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
}

impl<E, W, H, N, B, C> Consult<E> for Hooks<W, H, N, B, C>
where
    W: Hook<E, bool>,
    H: Hook<E, Option<Duration>>,
    N: for<'a> Hook<Failed<'a, E>, ()>,
    B: Limit,
    C: Clock,
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
}

mod sealed {
    pub trait Sealed {}
    impl<W, H, N, B, C> Sealed for super::Hooks<W, H, N, B, C> {}
}

/// Closures have nothing to show.
impl<W, H, N, B, C> fmt::Debug for Hooks<W, H, N, B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}
