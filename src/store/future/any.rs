//! An async store of any type.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::AsyncStore;
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
/// The same as [`blocking::AnyStore`](crate::store::blocking::AnyStore), async. Wrap a blocking
/// store in `Unblock`.
///
/// ```
/// use relent::Backoff;
/// use relent::store::{AnyStore, DurableTracker, Inline, MemoryStore};
///
/// struct Service {
///     tracker: DurableTracker<AnyStore>,
/// }
///
/// fn chosen(store: &str) -> Result<AnyStore, String> {
///     match store {
///         "memory" => Ok(AnyStore::new(MemoryStore::new())),
///         // Say, a `PostgresStore`.
///         other => Err(format!("store = {other:?}: no such store; there is \"memory\"")),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = Service { tracker: DurableTracker::new(chosen("memory")?, Backoff::DEFAULT) };
/// service.tracker.record_failure("mx.example.org", "no answer").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AnyStore(Arc<dyn Erased>);

impl AnyStore {
    /// Wraps a store of any type.
    pub fn new(store: impl AsyncStore + 'static) -> AnyStore {
        AnyStore(Arc::new(store))
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyStore").finish_non_exhaustive()
    }
}

type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, AnyError>> + Send + 'a>>;
type Told<'a> = &'a mut (dyn FnMut(usize, Result<SystemTime, LeaseLost>) + Send);

/// An [`AsyncStore`] that can be a trait object.
trait Erased: Send + Sync {
    fn update<'a>(&'a self, key: &'a str, change: Changes) -> Pending<'a, Answer>;
    fn update_all<'a>(&'a self, keys: &'a [&str], change: Changes) -> Pending<'a, Vec<Answer>>;
    fn load<'a>(&'a self, key: &'a str) -> Pending<'a, (Option<Record>, SystemTime)>;
    fn list<'a>(&'a self, page: &'a Page) -> Pending<'a, Vec<Listed>>;
    fn claim<'a>(&'a self, start: &'a Start, limit: usize) -> Pending<'a, Vec<Listed>>;
    fn extend<'a>(
        &'a self,
        leases: &'a [(&str, u64)],
        time_to_live: Duration,
        told: Told<'a>,
    ) -> Pending<'a, ()>;
}

impl<S: AsyncStore> Erased for S {
    fn update<'a>(&'a self, key: &'a str, mut change: Changes) -> Pending<'a, Answer> {
        let change = move |record: Option<&Record>, now| change(0, record, now);
        erased(self, AsyncStore::update(self, key, change))
    }

    fn update_all<'a>(&'a self, keys: &'a [&str], change: Changes) -> Pending<'a, Vec<Answer>> {
        erased(self, AsyncStore::update_all(self, keys, change))
    }

    fn load<'a>(&'a self, key: &'a str) -> Pending<'a, (Option<Record>, SystemTime)> {
        erased(self, AsyncStore::load(self, key))
    }

    fn list<'a>(&'a self, page: &'a Page) -> Pending<'a, Vec<Listed>> {
        erased(self, AsyncStore::list(self, page))
    }

    fn claim<'a>(&'a self, start: &'a Start, limit: usize) -> Pending<'a, Vec<Listed>> {
        erased(self, AsyncStore::claim(self, start, limit))
    }

    fn extend<'a>(
        &'a self,
        leases: &'a [(&str, u64)],
        time_to_live: Duration,
        told: Told<'a>,
    ) -> Pending<'a, ()> {
        erased(self, AsyncStore::extend(self, leases, time_to_live, told))
    }
}

fn erased<'a, S: AsyncStore, T>(
    store: &'a S,
    future: impl Future<Output = Result<T, S::Error>> + Send + 'a,
) -> Pending<'a, T> {
    Box::pin(async move {
        let done = future.await;
        done.map_err(|error| {
            let fault = store.fault(&error);
            AnyError::of(error, fault)
        })
    })
}

impl AsyncStore for AnyStore {
    type Error = AnyError;

    fn fault(&self, error: &AnyError) -> Fault {
        error.fault()
    }

    async fn update<R: Send + 'static>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, AnyError> {
        let change = any::changes(move |_, record, now| change(record, now));
        self.0.update(key, change).await.map(any::told)
    }

    async fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, AnyError> {
        let answers = self.0.update_all(keys, any::changes(change)).await?;
        Ok(answers.into_iter().map(any::told).collect())
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), AnyError> {
        self.0.load(key).await
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, AnyError> {
        self.0.list(page).await
    }

    async fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, AnyError> {
        self.0.claim(start, limit).await
    }

    async fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        mut told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> Result<(), AnyError> {
        self.0.extend(leases, time_to_live, &mut told).await
    }
}
