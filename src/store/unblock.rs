//! A blocking store behind the async face, on threads for blocking work.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::blocking::{self, Store};
use super::change::Change;
use super::desk::Desk;
use super::error::Fault;
use super::future::{AsyncStore, DurableTracker, Work};
use super::lease::LeaseLost;
use super::listing::{Listed, Page};
use super::record::Record;
use super::step::Start;

/// A blocking store behind the async face, called on tokio's threads for blocking work.
///
/// A call whose future is dropped goes on to its end. A panic within it goes on in the caller. Once
/// the runtime has ended, a call is made where its future is polled, so that a last flush is not
/// lost.
///
/// To write together with data of your own, on a connection that may not leave its thread, use the
/// blocking twins: [`DurableTracker::blocking`], [`Work::into_blocking`].
#[derive(Debug, Default)]
pub struct Unblock<S>(Arc<S>);

impl<S> Unblock<S> {
    /// Puts a blocking store behind the async face.
    pub fn new(store: S) -> Unblock<S> {
        Unblock(Arc::new(store))
    }

    /// The store.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.0
    }
}

impl<S> DurableTracker<Unblock<S>> {
    /// The blocking twin of this tracker: the same store, the same session. For use on a thread for
    /// blocking work, within a transaction of your own, say.
    #[must_use]
    pub fn blocking(&self) -> blocking::DurableTracker<S> {
        blocking::DurableTracker {
            desk: self.desk.unblocked(),
        }
    }
}

impl<S> Work<Unblock<S>> {
    /// The same work, for a thread for blocking work: to [finish](blocking::Work::finish_in) it
    /// within a transaction of your own, for which a blocking store needs its connection there.
    ///
    /// ```
    /// use relent::Backoff;
    /// use relent::store::{DurableTracker, MemoryStore, Unblock};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tracker = DurableTracker::new(Unblock::new(MemoryStore::new()), Backoff::DEFAULT);
    /// let work = tracker.start("machine-42").await?;
    /// let finished = tokio::task::spawn_blocking(move || work.into_blocking().finish().is_ok());
    /// assert!(finished.await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_blocking(self) -> blocking::Work<S> {
        let (desk, held) = self.into_parts();
        blocking::Work::of(desk.unblocked(), held)
    }
}

impl<S> Desk<Unblock<S>> {
    fn unblocked(&self) -> Desk<S> {
        self.over(Arc::clone(&self.store.0))
    }
}

impl<S: Store + Send + Sync + 'static> Unblock<S> {
    async fn call<T, F>(&self, call: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&S) -> T + Send + 'static,
    {
        let (store, call) = (Arc::clone(&self.0), Once::new(call));
        let there = call.clone();
        match tokio::task::spawn_blocking(move || there.make(&store)).await {
            Ok(Some(done)) => done,
            Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
            // The runtime ended before the call began, so this is polled by something else.
            _ => match call.make(&self.0) {
                Some(done) => done,
                None => std::future::pending().await,
            },
        }
    }
}

/// A call that is made once, by whoever gets to it first.
struct Once<F>(Arc<Mutex<Option<F>>>);

impl<F> Clone for Once<F> {
    fn clone(&self) -> Once<F> {
        Once(Arc::clone(&self.0))
    }
}

impl<F> Once<F> {
    fn new(call: F) -> Once<F> {
        Once(Arc::new(Mutex::new(Some(call))))
    }

    fn make<S, T>(&self, store: &S) -> Option<T>
    where
        F: FnOnce(&S) -> T,
    {
        let call = self.0.lock().take();
        call.map(|call| call(store))
    }
}

impl<S: Store + Send + Sync + 'static> AsyncStore for Unblock<S> {
    type Error = S::Error;

    fn fault(&self, error: &S::Error) -> Fault {
        self.0.fault(error)
    }

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
        for (n, answer) in answers {
            told(n, answer);
        }
        extended
    }
}
