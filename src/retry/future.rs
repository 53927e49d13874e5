//! The loop that is a future.

mod options;

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow::{Break, Continue};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::attempts::Rest;
use super::{
    Cancel, Consult, Hooks, Operation, Outcome, Retry, RuntimeSleep, RuntimeSleeper, Sleeper,
    Unset, sealed,
};
use crate::clock::RuntimeClock;
use crate::policy::Backoff;

pin_project! {
    /// Runs as a future: [`Backoff::retry_async`].
    ///
    /// `O` is the operation, `A` one attempt of it; `S` is the timer, `Z` one wait by it; `Q` is
    /// what may cancel. An attempt and a wait share their place.
    ///
    /// Where the operation's own types can be named, so can the loop's, to keep it in a struct:
    ///
    /// ```
    /// use relent::Backoff;
    /// use relent::retry::{Async, AsyncHooks, Retry};
    /// use std::{future::Future, io, pin::Pin};
    ///
    /// type Attempt = Pin<Box<dyn Future<Output = io::Result<u32>> + Send>>;
    ///
    /// struct Job {
    ///     retry: Pin<Box<Retry<Async<fn() -> Attempt, Attempt>, io::Error, AsyncHooks>>>,
    /// }
    ///
    /// fn attempt() -> Attempt {
    ///     Box::pin(async { Ok(42) })
    /// }
    ///
    /// let job = Job { retry: Box::pin(Backoff::DEFAULT.retry_async(attempt)) };
    /// # drop(job);
    /// ```
    pub struct Async<O, A, S = RuntimeSleeper, Z = RuntimeSleep, Q = Unset> {
        operation: O,
        timer: S,
        #[pin]
        cancel: Q,
        #[pin]
        state: State<A, Z>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<A, Z> {
        /// The next attempt is to begin.
        Idle,
        Attempt { #[pin] attempt: A },
        Wait { #[pin] wait: Z },
        /// Over, or left by a panic.
        Done,
    }
}

/// The options of an async loop of which none is set: it tells the time by the [`RuntimeClock`].
pub type AsyncHooks = Hooks<Unset, Unset, Unset, Unset, RuntimeClock>;

impl Backoff {
    /// Runs the futures that `operation` makes, one after the other, until one succeeds or this
    /// policy gives up.
    ///
    /// The loop is itself the future, and returns the operation's own result; [`outcome`] also
    /// tells how many attempts it took and why it ended. The options are those of [`Retry`].
    ///
    /// `operation` may borrow, but not mutably: where the compiler says that a "captured variable
    /// cannot escape `FnMut` closure body", or that an "async closure does not implement `FnMut`",
    /// [`retry_async_with`] is what to use.
    ///
    /// Sleeps by tokio's timer under the feature `tokio`, or by any other that [`sleep`] sets;
    /// without one it does not compile.
    ///
    /// Nothing runs before the loop is first polled: `operation` is not even called. Each attempt
    /// is dropped before the wait that follows it. Dropping the loop cancels it: the attempt or the
    /// wait that it is in is dropped too, and nothing goes on elsewhere. Polled after its end, it
    /// stays pending for ever.
    ///
    /// It is not boxed, about a hundred bytes larger than the operation's own future or one wait,
    /// whichever is larger, and `Send` whenever its parts are.
    ///
    /// # Panics
    ///
    /// At its first wait or time limit, if that is tokio's and the loop runs outside a tokio
    /// runtime: on another runtime set its [`sleep`].
    ///
    /// [`outcome`]: Retry::outcome
    /// [`retry_async_with`]: Self::retry_async_with
    /// [`sleep`]: Retry::sleep
    ///
    /// ```
    /// # #[cfg(feature = "tokio")]
    /// # {
    /// use relent::Backoff;
    /// use std::time::Duration;
    ///
    /// const POLICY: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(30));
    ///
    /// # async fn ask(question: &str) -> Result<u32, std::io::Error> { Ok(question.len() as u32) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), std::io::Error> {
    /// let question = String::from("the ultimate");
    /// let answer = POLICY
    ///     .retry_async(|| ask(&question))
    ///     .when(|error| error.kind() != std::io::ErrorKind::NotFound)
    ///     .timeout(Duration::from_secs(5), || std::io::ErrorKind::TimedOut.into())
    ///     .await?;
    /// # let _ = answer;
    /// # Ok(())
    /// # }
    /// # main().unwrap();
    /// # }
    /// ```
    #[inline]
    pub fn retry_async<F, A, T, E>(&self, operation: F) -> Retry<Async<F, A>, E, AsyncHooks>
    where
        F: FnMut() -> A,
        A: Future<Output = Result<T, E>>,
    {
        Retry::future(self, operation)
    }
}

impl<O, A, E> Retry<Async<O, A>, E, AsyncHooks> {
    /// No option is set.
    #[inline]
    pub(super) fn future(policy: &Backoff, operation: O) -> Self {
        let run = Async {
            operation,
            timer: RuntimeSleeper,
            cancel: Unset,
            state: State::Idle,
        };
        Retry::new(policy, run, AsyncHooks::default())
    }
}

impl<O, A, S, Z, Q, E, K> Retry<Async<O, A, S, Z, Q>, E, K> {
    /// The same loop as a future of its result with the number of attempts, the time that passed,
    /// and why it ended.
    #[inline]
    pub fn outcome(self) -> OutcomeFuture<Self> {
        OutcomeFuture { retry: self }
    }
}

/// A way of running that can be awaited: [`Async`]. Sealed: no other is.
#[diagnostic::on_unimplemented(
    message = "this loop is no future: it runs as `{Self}`",
    label = "end it by `.call()` or `.run()`",
    note = "`.retry(..)` blocks the thread: end it by `.call()`, or begin it by `.retry_async(..)`",
    note = "`.retry_async_mut(..)` is a future only once it runs: end it by `.run().await`"
)]
pub trait Awaited<E, K>: sealed::Awaited + Sized {
    /// What the operation returns when it succeeds.
    type Ok;

    #[doc(hidden)]
    fn poll_outcome(
        retry: Pin<&mut Retry<Self, E, K>>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self::Ok, E>>;
}

impl<O, A, S, Q, E, K> Awaited<E, K> for Async<O, A, S, S::Sleep, Q>
where
    O: Operation<S, Attempt = A, Error = E>,
    A: Future,
    S: Sleeper,
    Q: Cancel<E>,
    K: Consult<E>,
{
    type Ok = O::Ok;

    #[inline]
    fn poll_outcome(
        retry: Pin<&mut Retry<Self, E, K>>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<O::Ok, E>> {
        let this = retry.project();
        let mut run = this.run.project();
        loop {
            // Not in the match: the compiler then goes from here straight to the attempt.
            if matches!(*run.state, State::Idle) {
                let attempt = run.operation.start(run.timer);
                run.state.set(State::Attempt { attempt });
            }
            match run.state.as_mut().project() {
                StateProjection::Attempt { attempt } => {
                    let output = ready!(attempt.poll(cx));
                    // What a panic in a hook leaves behind is never polled again.
                    run.state.set(State::Done);
                    match this.attempts.judge(run.operation.finish(output)) {
                        Break(outcome) => return Poll::Ready(outcome),
                        Continue(resting) => {
                            let rest = resting.rest;
                            run.cancel.as_mut().keep(resting);
                            if let Rest::Sleep(delay) = rest {
                                let wait = run.timer.sleep(delay);
                                run.state.set(State::Wait { wait });
                                continue;
                            }
                            if let Poll::Ready(cut) = run.cancel.as_mut().poll_cancelled(cx) {
                                return Poll::Ready(this.attempts.cancelled(cut));
                            }
                            run.cancel.as_mut().release();
                            run.state.set(State::Idle);
                            if rest == Rest::Yield {
                                cx.waker().wake_by_ref();
                                return Poll::Pending;
                            }
                        }
                    }
                }
                StateProjection::Wait { wait } => {
                    if let Poll::Ready(cut) = run.cancel.as_mut().poll_cancelled(cx) {
                        run.state.set(State::Done);
                        return Poll::Ready(this.attempts.cancelled(cut));
                    }
                    ready!(wait.poll(cx));
                    run.cancel.as_mut().release();
                    run.state.set(State::Idle);
                }
                StateProjection::Idle | StateProjection::Done => return Poll::Pending,
            }
        }
    }
}

impl<R: Awaited<E, K>, E, K> Future for Retry<R, E, K> {
    type Output = Result<R::Ok, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        R::poll_outcome(self, cx).map(|outcome| outcome.result)
    }
}

pin_project! {
    /// The future of an [`Outcome`]. From [`Retry::outcome`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct OutcomeFuture<R> {
        #[pin]
        retry: R,
    }
}

impl<R: Awaited<E, K>, E, K> Future for OutcomeFuture<Retry<R, E, K>> {
    type Output = Outcome<R::Ok, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        R::poll_outcome(self.project().retry, cx)
    }
}

/// Closures and futures have nothing to show.
impl<O, A, S, Z, Q> fmt::Debug for Async<O, A, S, Z, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Async").finish_non_exhaustive()
    }
}
