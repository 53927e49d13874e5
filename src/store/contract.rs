//! What every store must do, as code: hold your own store to it.
//!
//! Implement [`Bench`] for your store, and call [`all`] in a test. Each function here is one
//! promise, and panics if the store does not keep it; its name begins with the number of the rule
//! in the architecture's list, if it has one.
//!
//! Not every store does everything. If a store does more than [`AsyncStore`] asks for, its bench
//! implements another trait, and another function tries it:
//!
//! | a store that | has a bench that is a | and is tried by |
//! |---|---|---|
//! | remembers | [`Bench`] | [`all`] |
//! | makes changes within the caller's transactions | [`TransactionBench`] | [`all_in_transactions`] |
//! | keeps a history | [`HistoryBench`] | [`all_of_history`] |
//! | does both | both | [`p3_history_joins_the_callers_transaction`], too |
//!
//! ```
//! use relent::clock::ManualClock;
//! use relent::store::MemoryStore;
//! use relent::store::contract::{self, Bench};
//! use std::time::{Duration, SystemTime};
//!
//! struct Memory(ManualClock);
//!
//! impl Bench for Memory {
//!     type Store = MemoryStore<ManualClock>;
//!
//!     async fn empty(&self) -> Self::Store {
//!         MemoryStore::with_clock(self.0.clone())
//!     }
//!
//!     async fn pass(&self, time: Duration) {
//!         self.0.advance(time);
//!     }
//!
//!     fn set_clock(&self, time: SystemTime) -> bool {
//!         self.0.set_wall(time);
//!         true
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(
//! contract::all(&Memory(ManualClock::new()))
//! # )
//! ```

#![expect(clippy::missing_panics_doc, reason = "to panic is what these are for")]

mod clock;
mod heartbeats;
mod history;
mod leases;
mod listings;
mod records;
mod streaks;
mod texts;
mod transactions;

pub use clock::{
    p1_a_clock_set_back_lengthens_no_lease, p1_a_clock_set_back_lengthens_no_wait,
    p1_waits_by_the_stores_clock, p7_times_keep_their_fractions,
};
pub use heartbeats::p2_a_heartbeat_tells_what_became_of_each_lease;
pub use history::{
    HistoryBench, history_does_not_tell_of_what_changed_nothing, history_is_pruned_by_age,
    history_is_told_by_key_and_limit, history_outlives_the_record,
    history_tells_in_order_what_happened, history_tells_of_each_in_a_batch,
    p3_history_joins_the_callers_transaction,
};
pub use leases::{
    p2_a_dead_worker_counts_as_one_failure, p2_a_stale_worker_is_refused,
    p2_heartbeats_keep_leases, p2_one_lease_per_key, p2_tokens_grow_also_over_deletion,
    p2_work_out_of_turn_escalates_nothing, p3_finish_deletes_fail_escalates_cancel_restores,
    p3_work_ends_once,
};
pub use listings::{claims_are_exclusive_and_oldest_first, listings_are_in_order_and_paged};
pub use records::{
    batches_are_as_good_as_single_calls, keys_are_any_text, records_come_back_as_they_were,
};
pub use streaks::{
    g3_giving_up_sticks, p2_attempts_of_one_window_escalate_once,
    p6_an_expired_record_seeds_the_next_interval, p8_without_a_policy_goes_on,
    success_and_forget_end_streaks,
};
pub use texts::{causes_are_any_text, holders_are_any_text};
pub use transactions::{
    End, TransactionBench, p2_a_key_is_taken_within_a_transaction,
    p2_a_stale_worker_is_refused_within_a_transaction,
    p3_a_finish_that_was_rolled_back_leaves_the_work_in_hand,
    p3_changes_of_one_transaction_go_together, p3_every_transition_joins_the_callers_transaction,
    p3_finish_joins_the_callers_transaction,
};

use std::future::Future;
use std::time::{Duration, SystemTime};

use super::step::Failed;
use super::{
    AsyncStore, DurableTracker, LeaseLost, Listed, Options, Refusal, StartError, Work, WorkError,
};
use crate::policy::{Backoff, Jitter};

/// Where a store is tried.
pub trait Bench {
    /// The store.
    type Store: AsyncStore + 'static;

    /// An empty store: one that shares no keys with those made before.
    fn empty(&self) -> impl Future<Output = Self::Store>;

    /// Lets time pass by the store's clock: moves it, or waits.
    fn pass(&self, time: Duration) -> impl Future<Output = ()>;

    /// Sets the store's clock to another time of day. Returns `false` if it cannot be set: promises
    /// about that are then not tried.
    fn set_clock(&self, _time: SystemTime) -> bool {
        false
    }

    /// The unit of time: all waits in the tests are multiples of it. For a clock that has to be
    /// waited for, 200 ms, say: long enough for a few calls of the store.
    fn unit(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// Tries every promise of a store, one after the other.
pub async fn all<B: Bench>(bench: &B) {
    p1_waits_by_the_stores_clock(bench).await;
    p1_a_clock_set_back_lengthens_no_wait(bench).await;
    p1_a_clock_set_back_lengthens_no_lease(bench).await;
    p2_one_lease_per_key(bench).await;
    p2_tokens_grow_also_over_deletion(bench).await;
    p2_a_stale_worker_is_refused(bench).await;
    p2_attempts_of_one_window_escalate_once(bench).await;
    p2_a_dead_worker_counts_as_one_failure(bench).await;
    p2_heartbeats_keep_leases(bench).await;
    p2_a_heartbeat_tells_what_became_of_each_lease(bench).await;
    p2_work_out_of_turn_escalates_nothing(bench).await;
    p3_finish_deletes_fail_escalates_cancel_restores(bench).await;
    p3_work_ends_once(bench).await;
    p6_an_expired_record_seeds_the_next_interval(bench).await;
    p7_times_keep_their_fractions(bench).await;
    p8_without_a_policy_goes_on(bench).await;
    g3_giving_up_sticks(bench).await;
    keys_are_any_text(bench).await;
    causes_are_any_text(bench).await;
    holders_are_any_text(bench).await;
    records_come_back_as_they_were(bench).await;
    batches_are_as_good_as_single_calls(bench).await;
    listings_are_in_order_and_paged(bench).await;
    claims_are_exclusive_and_oldest_first(bench).await;
    success_and_forget_end_streaks(bench).await;
}

/// Tries every promise of a store that makes changes within the caller's transactions.
pub async fn all_in_transactions<B: TransactionBench>(bench: &B) {
    p2_a_key_is_taken_within_a_transaction(bench).await;
    p2_a_stale_worker_is_refused_within_a_transaction(bench).await;
    p3_finish_joins_the_callers_transaction(bench).await;
    p3_a_finish_that_was_rolled_back_leaves_the_work_in_hand(bench).await;
    p3_every_transition_joins_the_callers_transaction(bench).await;
    p3_changes_of_one_transaction_go_together(bench).await;
}

/// Tries every promise of a store that keeps a history.
pub async fn all_of_history<B: HistoryBench>(bench: &B) {
    history_tells_in_order_what_happened(bench).await;
    history_is_told_by_key_and_limit(bench).await;
    history_tells_of_each_in_a_batch(bench).await;
    history_does_not_tell_of_what_changed_nothing(bench).await;
    history_outlives_the_record(bench).await;
    history_is_pruned_by_age(bench).await;
}

/// Doubles from one unit up to eight, without jitter.
fn policy<B: Bench>(bench: &B) -> Backoff {
    let unit = bench.unit();
    Backoff::exponential(unit, unit * 8).jitter(Jitter::None)
}

async fn tracker<B: Bench>(bench: &B) -> DurableTracker<B::Store> {
    DurableTracker::new(bench.empty().await, options(bench))
}

fn options<B: Bench>(bench: &B) -> Options {
    Options::new(policy(bench))
        .holder("one")
        .time_to_live(bench.unit() * 3)
}

/// Another worker on the same store.
fn another<B: Bench>(
    bench: &B,
    tracker: &DurableTracker<B::Store>,
    holder: &str,
) -> DurableTracker<B::Store> {
    tracker.another(options(bench).holder(holder))
}

/// A failure by the policy.
fn failed<B: Bench>(bench: &B, cause: &str) -> Failed {
    Failed {
        backoff: Some(policy(bench)),
        retry_after: None,
        cause: cause.to_owned(),
        entropy: 0,
    }
}

#[track_caller]
fn good<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("the store failed: {error}"))
}

#[track_caller]
fn done<T, E: std::fmt::Display>(result: Result<T, E>) {
    drop(good(result));
}

#[track_caller]
fn refused<S, E: std::fmt::Display>(started: Result<Work<S>, StartError<E>>) -> Refusal {
    match started {
        Ok(work) => panic!("{:?} was taken", work.key()),
        Err(StartError::Refused(refusal)) => refusal,
        Err(error) => panic!("the store failed: {error}"),
    }
}

#[track_caller]
fn lost<T, E: std::fmt::Display>(ended: Result<T, WorkError<E>>) -> LeaseLost {
    match ended {
        Ok(_) => panic!("a lost lease was good"),
        Err(WorkError::Lost(lost)) => lost,
        Err(WorkError::Store(error)) => panic!("the store failed: {error}"),
    }
}

fn keys(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(|listed| listed.key.as_str()).collect()
}
