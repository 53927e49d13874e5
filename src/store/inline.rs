//! A blocking store behind the async face.

#[cfg(feature = "tokio")]
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::blocking::{Store, Transactional};
use super::change::Change;
use super::future::{AsyncStore, AsyncTransactional};
use super::lease::LeaseLost;
use super::listing::{Listed, Page};
use super::record::Record;
use super::step::Start;

/// A blocking store behind the async face, called where the future is polled.
///
/// For stores that answer in no time, and for executors that may be blocked: on a thread of its own,
/// in a program that does nothing else. With tokio, see `Unblock`.
#[derive(Clone, Debug, Default)]
pub struct Inline<S>(pub S);

impl<S: Store + Send + Sync> AsyncStore for Inline<S> {
    type Error = S::Error;

    async fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, S::Error> {
        self.0.update(key, change)
    }

    async fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, S::Error> {
        self.0.update_all(keys, change)
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), S::Error> {
        self.0.load(key)
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, S::Error> {
        self.0.list(page)
    }

    async fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, S::Error> {
        self.0.claim(start, limit)
    }

    async fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> Result<(), S::Error> {
        self.0.extend(leases, time_to_live, told)
    }
}

impl<S: Transactional + Send + Sync> AsyncTransactional for Inline<S>
where
    for<'a> S::Connection<'a>: Send,
{
    type Connection<'a> = S::Connection<'a>;

    async fn update_in<R: Send + 'static>(
        &self,
        connection: S::Connection<'_>,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, S::Error> {
        self.0.update_in(connection, key, change)
    }
}

/// A blocking store behind the async face, called on tokio's threads for blocking work.
///
/// A call whose future is dropped goes on to its end. A panic within it goes on in the caller.
#[cfg(feature = "tokio")]
#[derive(Debug, Default)]
pub struct Unblock<S>(Arc<S>);

#[cfg(feature = "tokio")]
impl<S> Unblock<S> {
    /// Behind the async face.
    pub fn new(store: S) -> Unblock<S> {
        Unblock(Arc::new(store))
    }

    /// The store.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.0
    }
}

#[cfg(feature = "tokio")]
impl<S: Store + Send + Sync + 'static> Unblock<S> {
    async fn call<T: Send + 'static>(&self, call: impl FnOnce(&S) -> T + Send + 'static) -> T {
        let store = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || call(&store)).await {
            Ok(done) => done,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and will not poll this again.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

#[cfg(feature = "tokio")]
impl<S: Store + Send + Sync + 'static> AsyncStore for Unblock<S> {
    type Error = S::Error;

    async fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, S::Error> {
        let key = key.to_owned();
        self.call(move |store| store.update(&key, change)).await
    }

    async fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, S::Error> {
        let keys: Vec<_> = keys.iter().map(|&key| key.to_owned()).collect();
        self.call(move |store| {
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            store.update_all(&keys, change)
        })
        .await
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), S::Error> {
        let key = key.to_owned();
        self.call(move |store| store.load(&key)).await
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, S::Error> {
        let page = page.clone();
        self.call(move |store| store.list(&page)).await
    }

    async fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, S::Error> {
        let start = start.clone();
        self.call(move |store| store.claim(&start, limit)).await
    }

    async fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        mut told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> Result<(), S::Error> {
        let leases = leases.iter();
        let leases: Vec<_> = leases
            .map(|&(key, token)| (key.to_owned(), token))
            .collect();
        let extend = move |store: &S| {
            let leases = leases.iter();
            let leases: Vec<_> = leases.map(|(key, token)| (key.as_str(), *token)).collect();
            let mut answers = Vec::with_capacity(leases.len());
            let extended = store.extend(&leases, time_to_live, |n, answer| {
                answers.push((n, answer));
            });
            (answers, extended)
        };
        let (answers, extended) = self.call(extend).await;
        answers.into_iter().for_each(|(n, answer)| told(n, answer));
        extended
    }
}
