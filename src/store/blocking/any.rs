//! A blocking store of any type.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Store;
use crate::store::any::{self, Answer, AnyError, Changes};
use crate::store::change::Change;
use crate::store::error::Fault;
use crate::store::lease::LeaseLost;
use crate::store::listing::{Listed, Page};
use crate::store::record::Record;
use crate::store::step::Start;

/// A store of any type, for a program that learns only at its start which one to use.
///
/// It does all that the store in it does, except changes within the caller's transactions: those
/// need a connection of a known type.
///
/// The same as [`store::AnyStore`](crate::store::AnyStore), blocking. Wrap an async store in
/// `Block`.
///
/// ```
/// use relent::Backoff;
/// use relent::store::{MemoryStore, blocking::{AnyStore, DurableTracker}};
///
/// # let (file, directory) = (false, tempfile::tempdir()?);
/// # #[cfg(feature = "file")]
/// let store = if file {
///     AnyStore::new(relent::store::FileStore::open(directory.path().join("backoff.json"))?)
/// } else {
///     AnyStore::new(MemoryStore::new())
/// };
/// # #[cfg(not(feature = "file"))]
/// # let store = AnyStore::new(MemoryStore::new());
/// let tracker = DurableTracker::new(store, Backoff::DEFAULT);
/// tracker.record_failure("mx.example.org", "no answer")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AnyStore(Arc<dyn Erased>);

impl AnyStore {
    /// Wraps a store of any type.
    pub fn new(store: impl Store + Send + Sync + 'static) -> AnyStore {
        AnyStore(Arc::new(store))
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyStore").finish_non_exhaustive()
    }
}

type Told<'a> = &'a mut (dyn FnMut(usize, Result<SystemTime, LeaseLost>) + Send);

/// A [`Store`] that can be a trait object.
trait Erased: Send + Sync {
    fn update(&self, key: &str, change: Changes) -> Result<Answer, AnyError>;
    fn update_all(&self, keys: &[&str], change: Changes) -> Result<Vec<Answer>, AnyError>;
    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), AnyError>;
    fn list(&self, page: &Page) -> Result<Vec<Listed>, AnyError>;
    fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, AnyError>;
    fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        told: Told<'_>,
    ) -> Result<(), AnyError>;
}

impl<S: Store + Send + Sync> Erased for S {
    fn update(&self, key: &str, mut change: Changes) -> Result<Answer, AnyError> {
        let change = move |record: Option<&Record>, now| change(0, record, now);
        Store::update(self, key, change).map_err(erased(self))
    }

    fn update_all(&self, keys: &[&str], change: Changes) -> Result<Vec<Answer>, AnyError> {
        Store::update_all(self, keys, change).map_err(erased(self))
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), AnyError> {
        Store::load(self, key).map_err(erased(self))
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, AnyError> {
        Store::list(self, page).map_err(erased(self))
    }

    fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, AnyError> {
        Store::claim(self, start, limit).map_err(erased(self))
    }

    fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        told: Told<'_>,
    ) -> Result<(), AnyError> {
        Store::extend(self, leases, time_to_live, told).map_err(erased(self))
    }
}

fn erased<S: Store>(store: &S) -> impl Fn(S::Error) -> AnyError {
    |error| {
        let fault = store.fault(&error);
        AnyError::of(error, fault)
    }
}

impl Store for AnyStore {
    type Error = AnyError;

    fn fault(&self, error: &AnyError) -> Fault {
        error.fault()
    }

    fn update<R: Send + 'static>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, AnyError> {
        let change = any::changes(move |_, record, now| change(record, now));
        self.0.update(key, change).map(any::told)
    }

    fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, AnyError> {
        let answers = self.0.update_all(keys, any::changes(change))?;
        Ok(answers.into_iter().map(any::told).collect())
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), AnyError> {
        self.0.load(key)
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, AnyError> {
        self.0.list(page)
    }

    fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, AnyError> {
        self.0.claim(start, limit)
    }

    fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        mut told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> Result<(), AnyError> {
        self.0.extend(leases, time_to_live, &mut told)
    }
}
