//! The history of a key, for stores that keep one.

use std::time::SystemTime;

use super::change::Event;

/// One thing that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Entry {
    /// When, by the store's clock.
    #[cfg_attr(feature = "serde", serde(with = "super::record::json::time"))]
    pub at: SystemTime,
    /// What.
    pub event: Event,
    /// Why, if it failed or expired.
    pub cause: Option<String>,
}
