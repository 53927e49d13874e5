//! What happened to a key, for stores that keep it.

use std::time::SystemTime;

use super::change::Event;

/// One thing that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, by the store's clock.
    pub at: SystemTime,
    /// What.
    pub event: Event,
    /// Why, if it failed or expired.
    pub cause: Option<String>,
}
