//! The blocking face: what a store has to do, and the tracker over it.

mod any;
mod background;
mod behind;
#[cfg(feature = "tokio")]
mod block;
mod flusher;
mod heartbeat;
mod tracker;
mod work;

pub use any::AnyStore;
pub use behind::WriteBehind;
#[cfg(feature = "tokio")]
pub use block::Block;
pub use flusher::Flusher;
pub use heartbeat::Heartbeat;
pub use tracker::{Attempt, DurableTracker};
pub use work::Work;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

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
/// The same as [`AsyncStore`](super::AsyncStore), for callers that may block. A change has to be
/// `Send + 'static` because it has to be there, so that either trait can stand in for the other.
///
/// ```
/// use relent::Backoff;
/// use relent::store::blocking::{DurableTracker, Store};
/// use relent::store::{Change, Listed, Page, Record, Settled, Write};
/// use std::{collections::HashMap, convert::Infallible, sync::Mutex, time::SystemTime};
///
/// /// Say, a database that this crate does not know. It has what nobody may change meanwhile under
/// /// a lock, or in a transaction.
/// #[derive(Default)]
/// struct Mine(Mutex<Tables>);
///
/// #[derive(Default)]
/// struct Tables {
///     records: HashMap<String, Record>,
///     last_token: u64,
/// }
///
/// impl Store for Mine {
///     type Error = Infallible; // or `std::io::Error`, or one of your own
///
///     fn update<R: Send + 'static>(
///         &self,
///         key: &str,
///         mut change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
///     ) -> Result<R, Infallible> {
///         let Tables { records, last_token } = &mut *self.0.lock().unwrap();
///         let change = change(records.get(key), SystemTime::now());
///         let next_token = || {
///             *last_token += 1;
///             Ok::<u64, Infallible>(*last_token)
///         };
///         let Settled { write, answer, .. } = change.settle(next_token)?;
///         match write {
///             Write::Keep => {}
///             Write::Put(record) => drop(records.insert(key.to_owned(), record)),
///             Write::Delete => drop(records.remove(key)),
///         }
///         Ok(answer)
///     }
///
///     fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Infallible> {
///         let record = self.0.lock().unwrap().records.get(key).cloned();
///         Ok((record, SystemTime::now()))
///     }
///
///     fn list(&self, page: &Page) -> Result<Vec<Listed>, Infallible> {
///         let (tables, now) = (self.0.lock().unwrap(), SystemTime::now());
///         let records = tables.records.iter().filter(|(_, record)| page.lists(record, now));
///         let mut listed: Vec<_> = records
///             .map(|(key, record)| Listed { key: key.clone(), record: record.clone() })
///             .filter(|listed| page.after.as_ref().is_none_or(|after| listed.cursor() > *after))
///             .collect();
///         listed.sort_by_key(Listed::cursor);
///         listed.truncate(page.limit);
///         Ok(listed)
///     }
/// }
///
/// let tracker = DurableTracker::new(Mine::default(), Backoff::DEFAULT);
/// let work = tracker.start("machine-42")?;
/// work.fail("no answer")?;
/// assert_eq!(tracker.waiting(10)?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Store {
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
    /// returns its answer; as if no other thread, process or host did anything meanwhile.
    ///
    /// `change` gets the record, if there is one, and the **store's** time, never the caller's. It
    /// is a pure function, and may be called again after a conflict. It runs under the store's
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
    ) -> Result<R, Self::Error>;

    /// Makes one change to each of several keys, in this order, with as few commits as the store
    /// can. `change` gets the index of the key that it is called for, and may be called again for
    /// any of them. A key may be there twice.
    ///
    /// # Errors
    ///
    /// A store with transactions has then written nothing, or nobody knows. One without them may
    /// have made some of the changes.
    fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, Self::Error> {
        let change = Arc::new(Mutex::new(change));
        let each = keys.iter().enumerate().map(|(n, key)| {
            let change = Arc::clone(&change);
            self.update(key, move |record, now| change.lock()(n, record, now))
        });
        each.collect()
    }

    /// Reads a key's record, and the store's time.
    ///
    /// # Errors
    ///
    /// The store's.
    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Self::Error>;

    /// Lists a page of keys.
    ///
    /// # Errors
    ///
    /// The store's. A store may pass over a record that it cannot read, so that it stands in no
    /// other key's way; but where a first page would then be empty, that is the error.
    fn list(&self, page: &Page) -> Result<Vec<Listed>, Self::Error>;

    /// Starts work on up to `limit` of the keys that are due, oldest first, and returns those with
    /// their new leases.
    ///
    /// Each goes through [`Start::apply`] with [`Start::nth`]. There may be fewer than are due:
    /// other workers were quicker, or a lease had run out, which had to be counted as a failure.
    ///
    /// # Errors
    ///
    /// As for [`update_all`](Self::update_all).
    fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, Self::Error> {
        let due = self.list(&Page::first(Which::Due, limit))?;
        let keys: Vec<_> = due.iter().map(|listed| listed.key.as_str()).collect();
        let start = start.clone();
        let change = move |n: usize, record: Option<&Record>, now| start.nth(n).apply(record, now);
        let started = self.update_all(&keys, change)?;
        Ok(Listed::started(due, started))
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
    ) -> Result<(), Self::Error> {
        let mut parts = Parts::of(leases.len());
        let mut failed = Ok(());
        while let Some(part) = parts.next() {
            let leases = leases.get(part.clone()).unwrap_or_default();
            let keys: Vec<_> = leases.iter().map(|&(key, _)| key).collect();
            match self.update_all(&keys, desk::extensions(leases, time_to_live)) {
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

/// A store that can make a change within a transaction that the caller has open, so that the key
/// and the caller's own data are committed together, or not at all.
pub trait Transactional: Store {
    /// What such a transaction is open on: a reference of some kind.
    type Connection<'a>;

    /// As [`Store::update`], within the transaction that is open on `connection`. The answer holds
    /// once the transaction is committed.
    ///
    /// # Errors
    ///
    /// The store's. The transaction should then be rolled back.
    fn update_in<R: Send + 'static>(
        &self,
        connection: Self::Connection<'_>,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Self::Error>;
}

impl<S: Store + ?Sized> Store for Arc<S> {
    type Error = S::Error;

    fn fault(&self, error: &Self::Error) -> Fault {
        (**self).fault(error)
    }

    fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Self::Error> {
        (**self).update(key, change)
    }

    fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, Self::Error> {
        (**self).update_all(keys, change)
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Self::Error> {
        (**self).load(key)
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, Self::Error> {
        (**self).list(page)
    }

    fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, Self::Error> {
        (**self).claim(start, limit)
    }

    fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> Result<(), Self::Error> {
        (**self).extend(leases, time_to_live, told)
    }
}

impl<S: Transactional + ?Sized> Transactional for Arc<S> {
    type Connection<'a> = S::Connection<'a>;

    fn update_in<R: Send + 'static>(
        &self,
        connection: S::Connection<'_>,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, S::Error> {
        (**self).update_in(connection, key, change)
    }
}
