//! What a tracker or a store says of a key.

use core::fmt;
use core::time::Duration;

use crate::policy::{Brief, GiveUpReason};

/// Whether a key may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a key that is not ready should not be tried"]
pub enum Readiness {
    /// Now: it is not failing, or its wait is over.
    Ready,
    /// After this long.
    Wait(Duration),
    /// No more, until a success, or until the key is forgotten: on request, or by a tracker in
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

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Readiness::Ready => f.write_str("ready"),
            Readiness::Wait(left) => NotReady::Wait(left).fmt(f),
            Readiness::GaveUp(reason) => NotReady::GaveUp(reason).fmt(f),
        }
    }
}

/// Why a key may not be tried: a [`Readiness`] other than [`Ready`](Readiness::Ready), as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotReady {
    /// It may be tried after this long.
    Wait(Duration),
    /// No more: see [`Readiness::GaveUp`].
    GaveUp(GiveUpReason),
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            NotReady::Wait(left) => write!(f, "not ready for another {}", Brief(left)),
            NotReady::GaveUp(reason) => write!(f, "gave up: {reason}"),
        }
    }
}

impl core::error::Error for NotReady {}

impl From<NotReady> for Readiness {
    fn from(not_ready: NotReady) -> Readiness {
        match not_ready {
            NotReady::Wait(left) => Readiness::Wait(left),
            NotReady::GaveUp(reason) => Readiness::GaveUp(reason),
        }
    }
}

/// The end of a streak of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Recovery {
    /// How many failures there were.
    pub failures: u32,
    /// The time from the first of them to the success.
    pub outage: Duration,
}
