//! What came of a loop.

use std::fmt;
use std::time::Duration;

use crate::policy::GiveUpReason;

/// The result of a loop, and what else came of it. From `.outcome()`.
///
/// ```
/// use relent::{Backoff, StopReason};
/// use std::time::Duration;
///
/// const POLICY: Backoff = Backoff::fixed(Duration::ZERO);
///
/// let mut answers = [Err("down"), Err("down"), Ok("up")].into_iter();
/// let outcome = POLICY.retry(|| answers.next().unwrap()).outcome();
/// assert_eq!(outcome.result, Ok("up"));
/// assert_eq!((outcome.attempts, outcome.stop), (3, StopReason::Succeeded));
/// ```
///
/// In an error of your own:
///
/// ```
/// # use relent::{Backoff, Outcome};
/// # use std::{io, time::Duration};
/// # const POLICY: Backoff = Backoff::fixed(Duration::ZERO).give_up_after_failures(3);
/// # let load = || Err::<(), io::Error>(io::ErrorKind::TimedOut.into());
/// let Outcome { result, attempts, stop, .. } = POLICY.retry(load).outcome();
/// let loaded = result.map_err(|error| format!("{stop} after {attempts} attempts: {error}"));
/// assert_eq!(loaded.unwrap_err(), "too many failures after 3 attempts: timed out");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "the result is in it"]
pub struct Outcome<T, E> {
    /// The operation's own last result.
    pub result: Result<T, E>,
    /// How often the operation ran. Stops counting at `u32::MAX`.
    pub attempts: u32,
    /// The sum of the delays. One that was cancelled counts as far as it had come, by the loop's
    /// clock.
    pub waited: Duration,
    /// From the first failure to the end, attempts included. Zero if nothing failed.
    pub elapsed: Duration,
    /// Why it ended.
    pub stop: StopReason,
}

impl<T, E> Outcome<T, E> {
    /// Whether it succeeded, but not at the first attempt.
    pub fn recovered(&self) -> bool {
        self.result.is_ok() && self.attempts > 1
    }
}

/// Why a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The operation succeeded.
    Succeeded,
    /// `.when(..)` said that this error is not to be retried.
    NotRetryable,
    /// The policy gave up.
    GaveUp(GiveUpReason),
    /// The [`RetryBudget`](super::RetryBudget) was spent.
    Budget,
    /// The [`CancelToken`](super::CancelToken), or other signal, of `.cancel_on(..)` ended a wait.
    Cancelled,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::Succeeded => f.write_str("succeeded"),
            StopReason::NotRetryable => f.write_str("not retryable"),
            StopReason::GaveUp(reason) => reason.fmt(f),
            StopReason::Budget => f.write_str("retry budget spent"),
            StopReason::Cancelled => f.write_str("cancelled"),
        }
    }
}
