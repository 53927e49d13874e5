//! The loop that blocks its thread.

use std::fmt;
use std::ops::ControlFlow::{Break, Continue};
use std::thread;
use std::time::Duration;

use super::attempts::{Attempts, Rest};
use super::{CancelToken, Consult, Hooks, Outcome, Retry, sealed};
use crate::policy::Backoff;

/// Runs on the calling thread: [`Backoff::retry`].
pub struct Blocking<F, P = ThreadSleeper> {
    operation: F,
    pause: P,
}

impl Backoff {
    /// Runs `operation` until it succeeds or this policy gives up, and blocks the thread while it
    /// waits.
    ///
    /// Nothing runs before [`call`](Retry::call), which returns the operation's own result, or
    /// [`outcome`](Retry::outcome), which also tells how many attempts it took and why it ended.
    /// The options are those of [`Retry`].
    ///
    /// ```
    /// use relent::Backoff;
    /// use std::time::Duration;
    ///
    /// const POLICY: Backoff =
    ///     Backoff::exponential(Duration::from_millis(1), Duration::from_millis(50)).give_up_after_failures(5);
    ///
    /// let mut answers = ["busy", "busy", "42"].into_iter();
    /// let answer = POLICY
    ///     .retry(|| answers.next().unwrap_or("gone").parse::<u32>())
    ///     .notify(|failed| eprintln!("{}, again in {:?}", failed.error, failed.delay))
    ///     .call();
    /// assert_eq!(answer, Ok(42));
    /// ```
    #[inline]
    pub fn retry<F, T, E>(&self, operation: F) -> Retry<Blocking<F>, E>
    where
        F: FnMut() -> Result<T, E>,
    {
        let pause = ThreadSleeper;
        Retry::new(self, Blocking { operation, pause }, Hooks::default())
    }
}

impl<F, T, E, P, K> Retry<Blocking<F, P>, E, K>
where
    F: FnMut() -> Result<T, E>,
    P: Pause,
    K: Consult<E>,
{
    /// Runs the loop.
    ///
    /// # Errors
    ///
    /// The operation's own last error, whatever ended the loop; [`outcome`](Self::outcome) tells
    /// what did.
    #[inline]
    pub fn call(self) -> Result<T, E> {
        self.outcome().result
    }

    /// Runs the loop, and returns the result with the number of attempts, the time that passed, and
    /// why it ended.
    #[inline]
    pub fn outcome(self) -> Outcome<T, E> {
        let Retry { attempts, run, .. } = self;
        let Blocking {
            mut operation,
            pause,
        } = run;
        // Apart from the loop, so that what mostly is all there is needs no memory.
        match operation() {
            Ok(value) => attempts.succeeded(value),
            failed => go_on(attempts, operation, pause, failed),
        }
    }
}

/// The loop, after an attempt with this result.
#[cold]
fn go_on<F, T, E, P, K>(
    mut attempts: Attempts<K>,
    mut operation: F,
    mut pause: P,
    mut result: Result<T, E>,
) -> Outcome<T, E>
where
    F: FnMut() -> Result<T, E>,
    P: Pause,
    K: Consult<E>,
{
    loop {
        match attempts.judge(result) {
            Break(outcome) => return outcome,
            Continue(resting) => {
                if let Rest::Sleep(delay) = resting.rest {
                    pause.pause(delay);
                }
                if pause.is_cancelled() {
                    return attempts.cancelled(resting);
                }
            }
        }
        result = operation();
    }
}

/// How the loop waits.
impl<F, E, K> Retry<Blocking<F>, E, K> {
    /// Waits by `sleep` instead of [`std::thread::sleep`]. It is called only for delays above zero.
    ///
    /// Excludes [`cancel_on`](Self::cancel_on), which is another way to wait: a loop has one.
    ///
    /// In a test, let it move a [`ManualClock`](crate::clock::ManualClock):
    ///
    /// ```
    /// use relent::{Backoff, GiveUpReason, StopReason, clock::ManualClock};
    /// use std::time::Duration;
    ///
    /// const POLICY: Backoff =
    ///     Backoff::fixed(Duration::from_secs(60)).give_up_after(Duration::from_secs(3600));
    ///
    /// let clock = ManualClock::new();
    /// let outcome = POLICY
    ///     .retry(|| Err::<(), _>("down"))
    ///     .clock(&clock)
    ///     .sleep(|delay| clock.advance(delay))
    ///     .outcome();
    /// assert_eq!(outcome.attempts, 61);
    /// assert_eq!(outcome.stop, StopReason::GaveUp(GiveUpReason::Elapsed));
    /// ```
    #[inline]
    pub fn sleep<S>(self, sleep: S) -> Retry<Blocking<F, S>, E, K>
    where
        S: FnMut(Duration),
    {
        self.pause_by(sleep)
    }

    /// Lets `token` end the waits: the loop then ends with the last error and
    /// [`StopReason::Cancelled`](super::StopReason::Cancelled).
    ///
    /// A running attempt is not interrupted, and its result counts; the first always runs.
    ///
    /// Excludes [`sleep`](Self::sleep): a wait that a token can end is the token's own.
    #[inline]
    pub fn cancel_on(self, token: &CancelToken) -> Retry<Blocking<F, CancelToken>, E, K> {
        self.pause_by(token.clone())
    }

    fn pause_by<P>(self, pause: P) -> Retry<Blocking<F, P>, E, K> {
        self.map_run(|run| Blocking {
            operation: run.operation,
            pause,
        })
    }
}

/// How a blocking loop waits: [`ThreadSleeper`], a [`CancelToken`], or any `FnMut(Duration)`.
/// Sealed: no other type is one.
pub trait Pause: sealed::Pause {
    /// Waits for `delay`, or until cancelled.
    fn pause(&mut self, delay: Duration);

    /// Whether the loop is to end instead of trying again.
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl<S: FnMut(Duration)> Pause for S {
    #[inline]
    fn pause(&mut self, delay: Duration) {
        self(delay);
    }
}

/// The thread's own sleep, which nothing cuts short: [`std::thread::sleep`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ThreadSleeper;

impl Pause for ThreadSleeper {
    #[inline]
    fn pause(&mut self, delay: Duration) {
        thread::sleep(delay);
    }
}

impl Pause for CancelToken {
    fn pause(&mut self, delay: Duration) {
        // The loop asks by itself, after waits of no length too.
        let _ = self.cancelled_within(delay);
    }

    fn is_cancelled(&self) -> bool {
        CancelToken::is_cancelled(self)
    }
}

/// Closures have nothing to show.
impl<F, P> fmt::Debug for Blocking<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking").finish_non_exhaustive()
    }
}
