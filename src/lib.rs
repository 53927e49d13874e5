//! Retry and backoff that hold their promises: one policy as plain constant data, and everything a
//! program needs to obey it.
//!
//! ```
//! use relent::Backoff;
//! use std::time::Duration;
//!
//! # #[cfg(not(feature = "std"))]
//! # fn main() {}
//! # #[cfg(feature = "std")]
//! # fn main() -> Result<(), std::io::Error> {
//! const POLICY: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(30))
//!     .give_up_after_failures(12);
//!
//! let hosts = POLICY
//!     .retry(|| std::fs::read_to_string("/etc/hosts"))
//!     .when(|error| error.kind() != std::io::ErrorKind::NotFound)
//!     .notify(|failed| eprintln!("{}; again in {:?}", failed.error, failed.delay))
//!     .call()?;
//! # let _ = hosts;
//! # Ok(())
//! # }
//! ```
//!
//! A retry anywhere is the same pure step: (policy, state, failure) → (state, wait this long | give
//! up). The policy is a [`Backoff`], the state a [`BackoffState`], the step [`Backoff::next`].
//! Everything else supplies time and randomness, and obeys the [`Decision`]:
//!
//! | I have | I use |
//! |---|---|
//! | a sleep loop | [`Backoff::retry`] |
//! | an async call that sometimes fails | [`Backoff::retry_async`] |
//! | a map from keys to failures | [`BackoffTracker`] |
//! | failures to remember across restarts, processes or hosts | [`store::DurableTracker`] |
//! | work that only one worker at a time may do | [its leases](store::DurableTracker::start) |
//! | many clients of one service | [`RetryBudget`] |
//! | a crate that takes an iterator of delays | [`Backoff::schedule`] |
//! | backoff columns in a table of my own | [`BackoffState`] and [`Backoff::next`] |
//! | a policy written by a person | [`Backoff`] by serde, [`Backoff::validate`], [`Backoff::preview`] |
//! | questions | [`docs`]: guides, recipes, comparison, migration |
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `std` (default) | loops, trackers, stores; without it, the policy, the step, [`Schedule`] and [`random::draw`], on nothing but `core` |
//! | `serde` (default) | policies in configuration files, trackers' snapshots |
//! | `tokio` | tokio's timer and clock, which async loops then use; `store::Unblock` and `store::blocking::Block` |
//! | `tracing` | [an event for each failure](retry#events) |
//! | `file`, `sqlite`, `postgres`, `redis` | a [store] each |
//! | `contract` | tests that hold a store of your own to what every store must do |
//!
//! # Where it runs
//!
//! On Rust 1.85 or later, whatever the features. That is checked with the dependencies in this
//! crate's `Cargo.lock`; newer ones may need a newer Rust.
//!
//! It needs no atomic integers of 64 bits, which 32-bit PowerPC and MIPS do not have.
//!
//! On `wasm32-wasip1` loops and trackers run as elsewhere. On `wasm32-unknown-unknown` the standard
//! library has no clock, no sleep and no entropy: [`Instant::now`](std::time::Instant::now) and
//! [`thread::sleep`](std::thread::sleep) panic there. Give loops `.clock(..)`, `.sleep(..)` and
//! `.seed(..)` there, and trackers a seed and a clock, whose [`wall`](clock::Clock::wall) snapshots
//! go by; they need nothing else. Stores that keep files or connections are for machines that have
//! those.

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "std")]
mod atomic;
#[cfg(feature = "std")]
mod cancel;
#[cfg(feature = "std")]
pub mod clock;
#[cfg(any(doc, doctest))]
pub mod docs;
mod policy;
pub mod random;
#[cfg(feature = "std")]
pub mod retry;
mod state;
#[cfg(feature = "std")]
pub mod store;

pub use policy::{
    Backoff, GiveUp, GiveUpReason, InvalidBackoff, Jitter, Preview, PreviewRow, Problem, Rounding,
    Warning,
};
#[cfg(feature = "std")]
pub use retry::{CancelToken, Failed, Outcome, RetryBudget, StopReason};
#[cfg(feature = "std")]
pub use state::{
    Attempt, BackoffTracker, BackoffTrackerBuilder, DefaultHashBuilder, Moment, Snapshot,
    SnapshotKey, Streak,
};
pub use state::{BackoffState, Decision, Failure, NotReady, Readiness, Recovery, Schedule};

#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
