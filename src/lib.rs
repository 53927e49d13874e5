//! Retry and backoff that hold their promises.

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "std")]
pub mod clock;
pub mod docs;
mod policy;
pub mod random;
mod state;
#[cfg(feature = "std")]
pub mod store;

pub use policy::{
    Backoff, GiveUp, GiveUpReason, InvalidBackoff, Jitter, Preview, PreviewRow, Problem, Rounding,
    Warning,
};
pub use state::{BackoffState, Decision, Failure, Readiness, Recovery, Schedule};
