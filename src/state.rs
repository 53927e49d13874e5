//! Where are we? A streak's state and the step that moves it on; the keyed tracker.

mod backoff_state;
mod decision;
mod readiness;
mod schedule;
#[cfg(feature = "std")]
mod tracker;

pub use backoff_state::BackoffState;
pub(crate) use decision::Exact;
pub use decision::{Decision, Failure};
pub use readiness::{NotReady, Readiness, Recovery};
pub use schedule::Schedule;
#[cfg(feature = "std")]
pub use tracker::{
    Attempt, BackoffTracker, BackoffTrackerBuilder, DefaultHashBuilder, Moment, Snapshot,
    SnapshotKey, Streak,
};
