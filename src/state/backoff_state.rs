//! What is remembered of a streak.

use core::time::Duration;

/// What a streak of consecutive failures has come to. [`default`](Self::default) is "healthy".
///
/// Two plain numbers, to keep wherever it suits: in a variable, a column, a file. Nothing of the
/// policy is in them, so a changed policy acts at the next failure. A success ends the streak: set
/// the state back to its default.
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
    /// No failure since the last success.
    #[must_use]
    pub const fn is_healthy(&self) -> bool {
        self.failures == 0
    }
}
