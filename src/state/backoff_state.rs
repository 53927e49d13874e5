//! What is remembered of a streak.

use core::time::Duration;

/// What a streak of consecutive failures has come to. [`default`](Self::default) is "healthy".
///
/// Two plain numbers, to keep wherever it suits: in a variable, a column, a file. Nothing of the
/// policy is in them, so a changed policy acts at the next failure. A success ends the streak: set
/// the state back to [`HEALTHY`](Self::HEALTHY).
///
/// It needs neither `std` nor an allocator. On a chip with a clock and a serial number:
///
/// ```
/// use core::time::Duration;
/// use relent::{Backoff, BackoffState, Failure, random};
///
/// const POLICY: Backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(30));
///
/// struct Link {
///     state: BackoffState,
///     failing_since: Duration,
///     serial_number: u64,
///     draws: u64,
/// }
///
/// impl Link {
///     const fn new(serial_number: u64) -> Link {
///         Link { state: BackoffState::HEALTHY, failing_since: Duration::ZERO, serial_number, draws: 0 }
///     }
///
///     fn succeeded(&mut self) {
///         self.state = BackoffState::HEALTHY;
///     }
///
///     /// How long to wait; `None` is to give up.
///     fn failed(&mut self, now: Duration) -> Option<Duration> {
///         if self.state.is_healthy() {
///             self.failing_since = now;
///         }
///         self.draws += 1;
///         let failure = Failure::new(random::draw(self.serial_number, self.draws))
///             .elapsed(now.saturating_sub(self.failing_since));
///         POLICY.next(&mut self.state, failure).delay()
///     }
/// }
///
/// let mut link = Link::new(0x5eed);
/// assert!(link.failed(Duration::from_millis(700)) <= Some(Duration::from_millis(50)));
/// assert!(link.failed(Duration::from_millis(750)) <= Some(Duration::from_millis(100)));
/// link.succeeded();
/// # assert_eq!(link.state, BackoffState::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct BackoffState {
    /// How many failures in a row. 0 is healthy; stops counting at `u32::MAX`.
    pub failures: u32,
    /// The interval after the last of them, before jitter. Meaningless while healthy. Zero means
    /// that it is not known: the next failure then waits as the first does.
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::config::duration"))]
    pub interval: Duration,
}

impl BackoffState {
    /// No failure since the last success: the default, as a constant.
    pub const HEALTHY: BackoffState = BackoffState {
        failures: 0,
        interval: Duration::ZERO,
    };

    /// No failure since the last success.
    #[must_use]
    pub const fn is_healthy(&self) -> bool {
        self.failures == 0
    }
}
