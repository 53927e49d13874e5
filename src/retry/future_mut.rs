//! The async loop over an operation that borrows mutably.

use std::fmt;
use std::future::poll_fn;
use std::ops::ControlFlow::{Break, Continue};
use std::task::Poll;
use std::time::Duration;

use super::attempts::Rest;
use super::future::AsyncHooks;
use super::{Consult, OperationMut, Outcome, Retry, RuntimeSleeper, Sleeper, Timed};
use crate::policy::Backoff;

/// Runs as an `async fn`: [`Backoff::retry_async_mut`].
pub struct AsyncMut<O, S = RuntimeSleeper> {
    operation: O,
    timer: S,
}

impl Backoff {
    /// The same as [`retry_async`](Self::retry_async) for an operation whose attempts borrow
    /// mutably, which the other does not allow.
    ///
    /// Prefer the other where it compiles. This one is no future itself but has
    /// [`run`](Retry::run), and what it gives can't always be shown to be `Send`.
    ///
    /// Dropping the future cancels: the attempt or the wait it is in is dropped with it.
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
        let timer = RuntimeSleeper;
        Retry::new(self, AsyncMut { operation, timer }, AsyncHooks::default())
    }
}

/// How the loop waits, and for how long an attempt may run.
impl<O, S, E, K> Retry<AsyncMut<O, S>, E, K> {
    /// Waits by another timer: any `FnMut(Duration) -> impl Future<Output = ()>`.
    ///
    /// It is asked for delays above zero, and for the limits that
    /// [`timeout`](Self::timeout) sets.
    #[inline]
    pub fn sleep<S2: Sleeper>(self, timer: S2) -> Retry<AsyncMut<O, S2>, E, K> {
        self.map_run(|run| AsyncMut {
            operation: run.operation,
            timer,
        })
    }

    /// Gives each attempt `limit`; one that is not ready by then is dropped, and counts as failed
    /// with what `on_timeout` returns. Of several limits the shortest holds.
    #[inline]
    pub fn timeout<X>(self, limit: Duration, on_timeout: X) -> Retry<AsyncMut<Timed<O, X>, S>, E, K>
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
        })
    }
}

impl<O, S, E, K> Retry<AsyncMut<O, S>, E, K> {
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
        K: Consult<E>,
    {
        self.outcome().await.result
    }

    /// Runs the loop, and tells what came of it besides the result.
    pub async fn outcome(self) -> Outcome<O::Ok, E>
    where
        O: OperationMut<S, Error = E>,
        S: Sleeper,
        K: Consult<E>,
    {
        let Retry {
            mut attempts,
            run: AsyncMut {
                mut operation,
                mut timer,
            },
            ..
        } = self;
        loop {
            let result = operation.attempt(&mut timer).await;
            let rest = match attempts.judge(result) {
                Break(outcome) => return outcome,
                Continue((_, rest)) => rest,
            };
            match rest {
                Rest::None => {}
                Rest::Yield => yield_now().await,
                Rest::Sleep(delay) => timer.sleep(delay).await,
            }
        }
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
impl<O, S> fmt::Debug for AsyncMut<O, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncMut").finish_non_exhaustive()
    }
}
