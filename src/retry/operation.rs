//! What an async loop runs: a closure, or one with a time limit on each attempt.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::{Sleeper, sealed};

/// What is attempted: a `FnMut() -> impl Future<Output = Result<T, E>>`, or one that is [`Timed`].
///
/// An attempt may use the loop's timer `S`. Sealed: no other type is one.
pub trait Operation<S>: sealed::Operation {
    /// What an attempt returns when it succeeds.
    type Ok;
    /// What it returns when it fails.
    type Error;
    /// One attempt.
    type Attempt: Future;

    /// Begins an attempt.
    fn start(&mut self, timer: &mut S) -> Self::Attempt;

    /// What came of it.
    ///
    /// # Errors
    ///
    /// The operation's own, or the one made for a timeout.
    fn finish(
        &mut self,
        output: <Self::Attempt as Future>::Output,
    ) -> Result<Self::Ok, Self::Error>;
}

impl<S, F, A, T, E> Operation<S> for F
where
    F: FnMut() -> A,
    A: Future<Output = Result<T, E>>,
{
    type Ok = T;
    type Error = E;
    type Attempt = A;

    #[inline]
    fn start(&mut self, _: &mut S) -> A {
        self()
    }

    #[inline]
    fn finish(&mut self, output: Result<T, E>) -> Result<T, E> {
        output
    }
}

/// The same for an `AsyncFnMut() -> Result<T, E>`, whose attempts borrow from it. Sealed, too.
pub trait OperationMut<S>: sealed::OperationMut {
    /// What an attempt returns when it succeeds.
    type Ok;
    /// What it returns when it fails.
    type Error;

    /// One attempt, from beginning to end.
    fn attempt(&mut self, timer: &mut S) -> impl Future<Output = Result<Self::Ok, Self::Error>>;
}

impl<S, F, T, E> OperationMut<S> for F
where
    F: AsyncFnMut() -> Result<T, E>,
{
    type Ok = T;
    type Error = E;

    #[inline]
    fn attempt(&mut self, _: &mut S) -> impl Future<Output = Result<T, E>> {
        self()
    }
}

/// An operation with a time limit on each attempt. From `.timeout(..)`.
pub struct Timed<O, X> {
    pub(super) operation: O,
    pub(super) limit: Duration,
    pub(super) on_timeout: X,
}

impl<S, O, X> Operation<S> for Timed<O, X>
where
    S: Sleeper,
    O: Operation<S>,
    X: FnMut() -> O::Error,
{
    type Ok = O::Ok;
    type Error = O::Error;
    type Attempt = TimedAttempt<O::Attempt, S::Sleep>;

    fn start(&mut self, timer: &mut S) -> Self::Attempt {
        let attempt = self.operation.start(timer);
        TimedAttempt::new(attempt, timer.sleep(self.limit))
    }

    fn finish(
        &mut self,
        output: Option<<O::Attempt as Future>::Output>,
    ) -> Result<O::Ok, O::Error> {
        match output {
            Some(output) => self.operation.finish(output),
            None => Err((self.on_timeout)()),
        }
    }
}

impl<S, O, X> OperationMut<S> for Timed<O, X>
where
    S: Sleeper,
    O: OperationMut<S>,
    X: FnMut() -> O::Error,
{
    type Ok = O::Ok;
    type Error = O::Error;

    async fn attempt(&mut self, timer: &mut S) -> Result<O::Ok, O::Error> {
        let limit = timer.sleep(self.limit);
        let attempt = self.operation.attempt(timer);
        match TimedAttempt::new(attempt, limit).await {
            Some(result) => result,
            None => Err((self.on_timeout)()),
        }
    }
}

/// Closures have nothing to show.
impl<O, X> fmt::Debug for Timed<O, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// One attempt of a [`Timed`] operation: its output, or nothing if its time ran out.
    ///
    /// What is ready in time counts, even if it is seen only later.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct TimedAttempt<A, Z> {
        #[pin]
        attempt: A,
        #[pin]
        limit: Z,
        armed: bool,
    }
}

impl<A, Z> TimedAttempt<A, Z> {
    #[inline]
    const fn new(attempt: A, limit: Z) -> TimedAttempt<A, Z> {
        TimedAttempt {
            attempt,
            limit,
            armed: false,
        }
    }
}

impl<A: Future, Z: Future<Output = ()>> Future for TimedAttempt<A, Z> {
    type Output = Option<A::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<A::Output>> {
        let mut this = self.project();
        // The timer first: an attempt that uses up its task's budget at every poll would starve the
        // timer for ever. But an attempt that is ready at once needs no timer at all.
        let late = *this.armed && this.limit.as_mut().poll(cx).is_ready();
        if let Poll::Ready(output) = this.attempt.poll(cx) {
            return Poll::Ready(Some(output));
        }
        if late {
            return Poll::Ready(None);
        }
        if !*this.armed {
            *this.armed = true;
            return this.limit.poll(cx).map(|()| None);
        }
        Poll::Pending
    }
}
