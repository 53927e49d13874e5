//! How a key stands.

use std::time::Duration;

use crate::state::{BackoffState, Readiness};

/// How a failing key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Streak {
    /// How many failures in a row, and the interval after the last.
    pub state: BackoffState,
    /// The time since the first of them.
    pub elapsed: Duration,
    /// Whether the key may be tried now.
    pub readiness: Readiness,
}
