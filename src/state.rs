//! Where are we? A streak's state and the step that moves it on; the keyed tracker.

mod backoff_state;
mod decision;
mod schedule;
#[cfg(feature = "std")]
mod tracker;

pub use backoff_state::BackoffState;
pub use decision::{Decision, Failure};
pub use schedule::Schedule;
#[cfg(feature = "std")]
pub use tracker::{
    Attempt, BackoffTracker, BackoffTrackerBuilder, Readiness, Recovery, Snapshot, SnapshotKey,
    Streak,
};
