//! The async loop over an operation that borrows mutably.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::ops::ControlFlow::{Break, Continue};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::attempts::Rest;
use super::future::AsyncHooks;
use super::{
    Cancel, Cancelling, Consult, OperationMut, Outcome, Retry, RuntimeSleeper, Sleeper, Timed,
    Unset,
};
use crate::policy::Backoff;

/// Runs as an `async fn`: [`Backoff::retry_async_mut`].
pub struct AsyncMut<O, S = RuntimeSleeper, Q = Unset> {
    operation: O,
    timer: S,
    cancel: Q,
}

impl Backoff {
    /// The same as [`retry_async`](Self::retry_async) for a closure that borrows mutably, where
    /// nothing is spawned: in a test, or under `block_on`.
    ///
    /// In a spawned task use [`retry_async_with`](Self::retry_async_with): the compiler cannot
    /// prove that the futures of a mutably borrowing closure are `Send` (`higher-ranked lifetime
    /// error`), unless it is an `async move` closure over what it owns. The loop is not itself a
    /// future, but [`run`](Retry::run) returns one.
    ///
    /// Dropping that future cancels the loop: the attempt or the wait that it is in is dropped too.
    /// Polled after its end it panics, as that of any `async fn` does.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")]
    /// # {
    /// use relent::Backoff;
    ///
    /// # struct Connection;
    /// # impl Connection { async fn query(&mut self) -> Result<u32, std::io::Error> { Ok(1) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), std::io::Error> {
    /// let mut connection = Connection;
    /// let rows = Backoff::DEFAULT.retry_async_mut(async || connection.query().await).run().await?;
    /// # assert_eq!(rows, 1);
    /// # Ok(())
    /// # }
    /// # main().unwrap();
    /// # }
    /// ```
    #[inline]
    pub fn retry_async_mut<F, T, E>(&self, operation: F) -> Retry<AsyncMut<F>, E, AsyncHooks>
    where
        F: AsyncFnMut() -> Result<T, E>,
    {
        let run = AsyncMut {
            operation,
            timer: RuntimeSleeper,
            cancel: Unset,
        };
        Retry::new(self, run, AsyncHooks::default())
    }
}

type CancelMutBy<O, S, G, E> = AsyncMut<O, S, Cancelling<<G as IntoFuture>::IntoFuture, E>>;

/// How the loop waits, and for how long an attempt may run.
impl<O, S, Q, E, K> Retry<AsyncMut<O, S, Q>, E, K> {
    /// Waits by another timer: any `FnMut(Duration) -> impl Future<Output = ()>`.
    ///
    /// It is asked for delays above zero, and for the limits that
    /// [`timeout`](Self::timeout) sets.
    #[inline]
    pub fn sleep<S2: Sleeper>(self, timer: S2) -> Retry<AsyncMut<O, S2, Q>, E, K> {
        self.map_run(|run| AsyncMut {
            operation: run.operation,
            timer,
            cancel: run.cancel,
        })
    }

    /// Gives each attempt at most `limit`; one that is not ready by then is dropped, and counts as
    /// failed with the error that `on_timeout` returns. Set more than once, the shortest limit
    /// holds.
    #[inline]
    pub fn timeout<X>(
        self,
        limit: Duration,
        on_timeout: X,
    ) -> Retry<AsyncMut<Timed<O, X>, S, Q>, E, K>
    where
        X: FnMut() -> E,
    {
        self.map_run(|run| AsyncMut {
            operation: Timed {
                operation: run.operation,
                limit,
                on_timeout,
            },
            timer: run.timer,
            cancel: run.cancel,
        })
    }
}

/// What ends its waits. There is one signal: a second would take its place.
impl<O, S, E, K> Retry<AsyncMut<O, S>, E, K> {
    /// Lets `signal` end the waits: the loop then ends with the last error and
    /// [`StopReason::Cancelled`](super::StopReason::Cancelled).
    ///
    /// A signal is a [`&CancelToken`](super::CancelToken), or any other future of `()`. A running
    /// attempt is not interrupted, and its result counts; the first always runs.
    #[inline]
    pub fn cancel_on<G>(self, signal: G) -> Retry<CancelMutBy<O, S, G, E>, E, K>
    where
        G: IntoFuture<Output = ()>,
    {
        self.map_run(|run| AsyncMut {
            operation: run.operation,
            timer: run.timer,
            cancel: Cancelling::new(signal.into_future()),
        })
    }
}

impl<O, S, Q, E, K> Retry<AsyncMut<O, S, Q>, E, K> {
    /// Runs the loop.
    ///
    /// # Errors
    ///
    /// The operation's own last error, whatever ended the loop; [`outcome`](Self::outcome) tells
    /// what did.
    pub async fn run(self) -> Result<O::Ok, E>
    where
        O: OperationMut<S, Error = E>,
        S: Sleeper,
        Q: Cancel<E>,
        K: Consult<E>,
    {
        self.outcome().await.result
    }

    /// Runs the loop, and returns the result with the number of attempts, the time that passed, and
    /// why it ended.
    pub async fn outcome(self) -> Outcome<O::Ok, E>
    where
        O: OperationMut<S, Error = E>,
        S: Sleeper,
        Q: Cancel<E>,
        K: Consult<E>,
    {
        let Retry {
            mut attempts, run, ..
        } = self;
        let AsyncMut {
            mut operation,
            mut timer,
            cancel,
        } = run;
        let mut cancel = pin!(cancel);
        loop {
            let result = operation.attempt(&mut timer).await;
            let rest = match attempts.judge(result) {
                Break(outcome) => return outcome,
                Continue(resting) => {
                    let rest = resting.rest;
                    cancel.as_mut().keep(resting);
                    rest
                }
            };
            let mut wait = pin!(wait(rest, &mut timer));
            let cut = poll_fn(|cx| match cancel.as_mut().poll_cancelled(cx) {
                Poll::Ready(cut) => Poll::Ready(Some(cut)),
                Poll::Pending => wait.as_mut().poll(cx).map(|()| None),
            });
            if let Some(cut) = cut.await {
                return attempts.cancelled(cut);
            }
            cancel.as_mut().release();
        }
    }
}

async fn wait<S: Sleeper>(rest: Rest, timer: &mut S) {
    match rest {
        Rest::None => {}
        Rest::Yield => yield_now().await,
        Rest::Sleep(delay) => timer.sleep(delay).await,
    }
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Closures have nothing to show.
impl<O, S, Q> fmt::Debug for AsyncMut<O, S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncMut").finish_non_exhaustive()
    }
}
