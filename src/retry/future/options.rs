//! The options that an async loop has besides those of every loop.

use std::future::IntoFuture;
use std::time::Duration;

use super::{Async, State};
use crate::retry::{Cancelling, Operation, Retry, Sleeper, Timed, TimedAttempt};

type SleepBy<O, S, Q> = Async<O, <O as Operation<S>>::Attempt, S, <S as Sleeper>::Sleep, Q>;
type TimedAsync<O, X, A, S, Z, Q> = Async<Timed<O, X>, TimedAttempt<A, Z>, S, Z, Q>;
type CancelBy<O, A, S, Z, G, E> = Async<O, A, S, Z, Cancelling<<G as IntoFuture>::IntoFuture, E>>;

/// How the loop waits, and for how long an attempt may run.
impl<O, A, S, Z, Q, E, K> Retry<Async<O, A, S, Z, Q>, E, K> {
    /// Waits by another timer: any `FnMut(Duration) -> impl Future<Output = ()>`.
    ///
    /// Set before the first poll. It is asked for delays above zero, and for the limits that
    /// [`timeout`](Self::timeout) sets.
    #[inline]
    pub fn sleep<S2>(self, timer: S2) -> Retry<SleepBy<O, S2, Q>, E, K>
    where
        O: Operation<S2, Error = E>,
        S2: Sleeper,
    {
        self.map_run(|run| Async {
            operation: run.operation,
            timer,
            cancel: run.cancel,
            state: State::Idle,
        })
    }

    /// Gives each attempt at most `limit`; one that is not ready by then is dropped, and counts as
    /// failed with the error that `on_timeout` returns.
    ///
    /// The limit counts from the beginning of the attempt, and the waits between attempts are not
    /// in it. Set more than once, the shortest limit holds.
    #[inline]
    pub fn timeout<X>(
        self,
        limit: Duration,
        on_timeout: X,
    ) -> Retry<TimedAsync<O, X, A, S, Z, Q>, E, K>
    where
        X: FnMut() -> E,
    {
        self.map_run(|run| Async {
            operation: Timed {
                operation: run.operation,
                limit,
                on_timeout,
            },
            timer: run.timer,
            cancel: run.cancel,
            state: State::Idle,
        })
    }
}

/// What ends its waits. There is one signal: a second would take its place.
impl<O, A, S, Z, E, K> Retry<Async<O, A, S, Z>, E, K> {
    /// Lets `signal` end the waits: the loop then ends with the last error and
    /// [`StopReason::Cancelled`](crate::StopReason::Cancelled).
    ///
    /// A signal is a [`&CancelToken`](crate::CancelToken), as for a blocking loop, or any other
    /// future of `()`, such as `tokio_util`'s `token.cancelled()`. It is polled only during waits,
    /// and not again once it was ready.
    ///
    /// A running attempt is not interrupted, and its result counts; the first always runs. Dropping
    /// the loop interrupts everything, and leaves no error.
    ///
    /// ```
    /// use relent::{Backoff, CancelToken, StopReason};
    /// use std::time::Duration;
    ///
    /// const POLICY: Backoff = Backoff::fixed(Duration::from_secs(3600));
    ///
    /// # #[cfg(feature = "tokio")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let shutdown = CancelToken::new();
    /// let worker = tokio::spawn({
    ///     let shutdown = shutdown.clone();
    ///     let retry = POLICY.retry_async(async || Err::<(), _>("down"));
    ///     retry.cancel_on(&shutdown).outcome()
    /// });
    /// shutdown.cancel();
    /// let outcome = worker.await.unwrap();
    /// assert_eq!((outcome.stop, outcome.result), (StopReason::Cancelled, Err("down")));
    /// # }
    /// # #[cfg(not(feature = "tokio"))]
    /// # fn main() {}
    /// ```
    #[inline]
    pub fn cancel_on<G>(self, signal: G) -> Retry<CancelBy<O, A, S, Z, G, E>, E, K>
    where
        G: IntoFuture<Output = ()>,
    {
        self.map_run(|run| Async {
            operation: run.operation,
            timer: run.timer,
            cancel: Cancelling::new(signal.into_future()),
            state: State::Idle,
        })
    }
}
