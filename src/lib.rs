//! Retry and backoff that hold their promises: one policy as plain constant data, and everything a
//! program needs to obey it.
//!
//! ```
//! use relent::Backoff;
//! use std::time::Duration;
//!
//! const POLICY: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(30))
//!     .give_up_after_failures(8);
//!
//! // The delays of one streak of failures, none above 30 s, and no two streaks alike.
//! for delay in POLICY.schedule() {
//!     assert!(delay <= Duration::from_secs(30));
//! }
//! ```
//!
//! A retry anywhere is the same pure step: (policy, state, failure) → (state, wait this long | give
//! up). The policy is a [`Backoff`], the state a [`BackoffState`], the step [`Backoff::next`]. Everything
//! else supplies time and randomness, and obeys the [`Decision`]:
//!
//! | I have | I use |
//! |---|---|
//! | an iterator of delays to fill | [`Backoff::schedule`] |
//! | columns of my own | [`BackoffState`] and [`Backoff::next`] |
//! | a policy written by a person | [`Backoff`] by serde, [`Backoff::validate`], [`Backoff::preview`] |
//! | questions | [`docs`] |

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "std")]
pub mod clock;
#[cfg(any(doc, doctest))]
pub mod docs;
mod policy;
pub mod random;
#[cfg(feature = "std")]
pub mod retry;
mod state;

pub use policy::{
    Backoff, GiveUp, GiveUpReason, InvalidBackoff, Jitter, Preview, PreviewRow, Problem, Rounding,
    Warning,
};
#[cfg(feature = "std")]
pub use retry::{CancelToken, Failed, Outcome, RetryBudget, StopReason};
pub use state::{BackoffState, Decision, Failure, Schedule};
