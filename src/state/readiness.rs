//! What a tracker or a store says of a key.

use core::time::Duration;

use crate::policy::GiveUpReason;

/// Whether a key may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a key that is not ready should not be tried"]
pub enum Readiness {
    /// Now: it is not failing, or its wait is over.
    Ready,
    /// After this long.
    Wait(Duration),
    /// Not any more, until a success, or until the key is forgotten: by somebody, or by a tracker in
    /// memory after its retention.
    GaveUp(GiveUpReason),
}

impl Readiness {
    /// Whether the key may be tried now.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        matches!(self, Readiness::Ready)
    }
}

/// The end of a streak of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recovery {
    /// How many failures there were.
    pub failures: u32,
    /// The time from the first of them to the success.
    pub outage: Duration,
}
