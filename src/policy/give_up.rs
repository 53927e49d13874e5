//! When to stop.

use core::time::Duration;

/// When a policy stops retrying: at whichever limit comes first, or never.
///
/// ```
/// use relent::GiveUp;
/// use std::time::Duration;
///
/// let patience = GiveUp { after_failures: Some(10), after_elapsed: Some(Duration::from_secs(900)) };
/// # let _ = patience;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GiveUp {
    /// Give up at this many consecutive failures, which is also the most attempts there are. 0 is
    /// read as 1.
    pub after_failures: Option<u32>,
    /// Give up once the next attempt would begin more than this long after the streak's first
    /// failure.
    ///
    /// The wait that would pass the limit is not begun. Zero means that nothing is retried.
    pub after_elapsed: Option<Duration>,
}

impl GiveUp {
    /// No limit.
    pub const NEVER: GiveUp = GiveUp {
        after_failures: None,
        after_elapsed: None,
    };
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum GiveUpReason {
    /// [`GiveUp::after_failures`].
    Failures,
    /// [`GiveUp::after_elapsed`].
    Elapsed,
}

impl core::fmt::Display for GiveUpReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            GiveUpReason::Failures => "too many failures",
            GiveUpReason::Elapsed => "too much time elapsed",
        })
    }
}
