//! The async face: what a store has to do, and the tracker over it.

mod any;
mod behind;
mod flusher;
mod heartbeat;
mod tracker;
mod turns;
mod work;

pub use any::AnyStore;
pub use behind::WriteBehind;
pub use tracker::{Attempt, DurableTracker};
pub use work::Work;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::change::Change;
use super::desk;
use super::error::Fault;
use super::lease::LeaseLost;
use super::listing::{Listed, Page, Which};
use super::parts::Parts;
use super::record::Record;
use super::step::Start;

/// Keeps a record per key, and lets one change at a time be made to it.
///
/// A store only loads, compares and swaps, and lists; what a change comes to is decided in
/// [`step`](super::step). Test a store of your own with `store::contract` (feature `contract`).
///
/// The same as [`blocking::Store`](super::blocking::Store), where there is an example, but async.
///
/// Its futures may be dropped at any point. The change is then made wholly or not at all, and
/// nobody knows which. A store that goes on with a call keeps `change` until no call that begins
/// later can come before it.
pub trait AsyncStore: Send + Sync {
    /// What can go wrong with the store.
    type Error: std::error::Error + Send + Sync + 'static;

    /// What an error is about: one key, or the whole store. Where many keys are written at once and
    /// one of them cannot be reached, the others are tried without it; but if the store itself
    /// cannot be, nothing more is tried.
    fn fault(&self, error: &Self::Error) -> Fault {
        let _ = error;
        Fault::Unknown
    }

    /// Makes one change to one key: reads its record, calls `change`, writes what it says and
    /// returns its answer; as if no other task, process or host did anything meanwhile.
    ///
    /// `change` gets the record, if there is one, and the **store's** time, never the caller's. It
    /// is a pure function, and may be called again after a conflict. It may run under the store's
    /// locks, so it must not use the store.
    ///
    /// The answer is only returned once the write is as durable as the store can make it.
    ///
    /// The key is valid: trackers see to that. Whoever calls this without one asks
    /// [`InvalidKey::check`](super::InvalidKey::check) first.
    ///
    /// # Errors
    ///
    /// The store's. Nothing was written; or, if the answer was lost on the way, nobody knows.
    fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> impl Future<Output = Result<R, Self::Error>> + Send;

    /// Makes one change to each of several keys, in this order, with as few commits and round trips
    /// as the store can. `change` gets the index of the key that it is called for, and may be
    /// called again for any of them. A key may be there twice.
    ///
    /// # Errors
    ///
    /// A store with transactions has then written nothing, or nobody knows. One without them may
    /// have made some of the changes.
    fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> impl Future<Output = Result<Vec<R>, Self::Error>> + Send;

    /// Reads a key's record, and the store's time.
    ///
    /// # Errors
    ///
    /// The store's.
    fn load(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<(Option<Record>, SystemTime), Self::Error>> + Send;

    /// Lists a page of keys.
    ///
    /// # Errors
    ///
    /// The store's. A store may pass over a record that it cannot read, so that it stands in no
    /// other key's way; but where a first page would then be empty, that is the error.
    fn list(&self, page: &Page) -> impl Future<Output = Result<Vec<Listed>, Self::Error>> + Send;

    /// Starts work on up to `limit` of the keys that are due, oldest first, and returns those with
    /// their new leases.
    ///
    /// Each goes through [`Start::apply`] with [`Start::nth`]. There may be fewer than are due:
    /// other workers were quicker, or a lease had run out, which had to be counted as a failure.
    ///
    /// # Errors
    ///
    /// As for [`update_all`](Self::update_all).
    fn claim(
        &self,
        start: &Start,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Listed>, Self::Error>> + Send {
        async move {
            let due = self.list(&Page::first(Which::Due, limit)).await?;
            let keys: Vec<_> = due.iter().map(|listed| listed.key.as_str()).collect();
            let start = start.clone();
            let change =
                move |n: usize, record: Option<&Record>, now| start.nth(n).apply(record, now);
            let started = self.update_all(&keys, change).await?;
            Ok(Listed::started(due, started))
        }
    }

    /// Extends leases, each given as a key and a token, to live for `time_to_live` from now: a
    /// heartbeat. Calls `told` with the index of each and what came of it.
    ///
    /// No lease may run out because another cannot be extended. By default, the store changes them
    /// all at once and, where that fails, ever smaller parts of them. A store that can tell which
    /// key failed, or that would have to wait for one, does better to go on without that key.
    ///
    /// # Errors
    ///
    /// One for all the leases for which `told` was not called: their keys cannot be reached. The
    /// heartbeat tries them again.
    fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        mut told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async move {
            let mut parts = Parts::of(leases.len());
            let mut failed = Ok(());
            while let Some(part) = parts.next() {
                let leases = leases.get(part.clone()).unwrap_or_default();
                let keys: Vec<_> = leases.iter().map(|&(key, _)| key).collect();
                let extensions = desk::extensions(leases, time_to_live);
                match self.update_all(&keys, extensions).await {
                    Ok(answers) => {
                        parts.made();
                        part.zip(answers).for_each(|(n, answer)| told(n, answer));
                    }
                    Err(error) if parts.failed(part, self.fault(&error)) => failed = Err(error),
                    Err(_) => {}
                }
            }
            failed
        }
    }
}

/// A store that can make a change within a transaction that the caller has open, so that the key
/// and the caller's own data are committed together, or not at all.
pub trait AsyncTransactional: AsyncStore {
    /// What such a transaction is open on: a reference of some kind.
    type Connection<'a>: Send;

    /// As [`AsyncStore::update`], within the transaction that is open on `connection`. The answer
    /// holds once the transaction is committed.
    ///
    /// # Errors
    ///
    /// The store's. The transaction should then be rolled back.
    fn update_in<R: Send + 'static>(
        &self,
        connection: Self::Connection<'_>,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> impl Future<Output = Result<R, Self::Error>> + Send;
}

impl<S: AsyncStore + ?Sized> AsyncStore for Arc<S> {
    type Error = S::Error;

    fn fault(&self, error: &Self::Error) -> Fault {
        (**self).fault(error)
    }

    async fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Self::Error> {
        (**self).update(key, change).await
    }

    async fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, Self::Error> {
        (**self).update_all(keys, change).await
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Self::Error> {
        (**self).load(key).await
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, Self::Error> {
        (**self).list(page).await
    }

    async fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, Self::Error> {
        (**self).claim(start, limit).await
    }

    async fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> Result<(), Self::Error> {
        (**self).extend(leases, time_to_live, told).await
    }
}

impl<S: AsyncTransactional + ?Sized> AsyncTransactional for Arc<S> {
    type Connection<'a> = S::Connection<'a>;

    // As an `async fn` it does not compile before Rust 1.92 (rust-lang/rust#100013).
    fn update_in<R: Send + 'static>(
        &self,
        connection: S::Connection<'_>,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> impl Future<Output = Result<R, S::Error>> + Send {
        (**self).update_in(connection, key, change)
    }
}
