//! The tracker's verbs over an async store.

mod attempt;
mod leases;
mod within;

pub use attempt::Attempt;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::AsyncStore;
use crate::policy::Backoff;
use crate::state::{Decision, Readiness, Recovery};
use crate::store::change::Change;
use crate::store::desk::{self, Desk, checked};
use crate::store::error::{Error, StartError};
use crate::store::listing::{Listed, Page, Which};
use crate::store::options::Options;
use crate::store::record::Record;
use crate::store::session::Session;
use crate::store::step::{self, Window};

/// Backoff and leases per key, over an [`AsyncStore`]: they survive crashes, and processes share
/// them.
///
/// The same as [`blocking::DurableTracker`](crate::store::blocking::DurableTracker), async.
///
/// Its futures may be dropped at any point: what one was about to do is then done wholly or not at
/// all. If it was starting work, the lease may have been taken, and is left to run out.
///
/// Clones share the store and the session.
///
/// ```
/// use relent::Backoff;
/// use relent::store::{DurableTracker, MemoryStore, Refusal, StartError};
/// use std::time::Duration;
///
/// const MINUTE: Duration = Duration::from_secs(60);
/// const POLICY: Backoff = Backoff::exponential(MINUTE, Duration::from_secs(3600));
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tracker = DurableTracker::new(MemoryStore::new(), POLICY);
/// let work = tracker.start("machine-42").await?;
/// work.fail("no answer").await?;
///
/// let refused = tracker.start("machine-42").await.map(drop);
/// assert!(matches!(refused, Err(StartError::Refused(Refusal::BackingOff { .. }))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DurableTracker<S> {
    pub(in crate::store) desk: Desk<S>,
}

/// Making one.
impl<S> DurableTracker<S> {
    /// A tracker over a store. To share the store, pass an [`Arc`] of it, or make
    /// [another](Self::another) tracker from this one.
    #[must_use]
    pub fn new(store: S, options: impl Into<Options>) -> DurableTracker<S> {
        DurableTracker {
            desk: Desk::new(Arc::new(store), &options.into()),
        }
    }

    /// Another tracker over the same store, in a session of its own.
    #[must_use]
    pub fn another(&self, options: impl Into<Options>) -> DurableTracker<S> {
        DurableTracker {
            desk: Desk::new(Arc::clone(&self.desk.store), &options.into()),
        }
    }

    /// The same tracker in a new session, for when the last one has expired.
    #[must_use]
    pub fn renewed(&self) -> DurableTracker<S> {
        DurableTracker {
            desk: self.desk.renewed(),
        }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.desk.store
    }

    /// The session: the leases that this tracker holds.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.desk.session
    }
}

impl<S> Clone for DurableTracker<S> {
    fn clone(&self) -> DurableTracker<S> {
        DurableTracker {
            desk: self.desk.clone(),
        }
    }
}

/// Backoff.
///
/// # Errors
///
/// Each of these fails with [`Error::Key`] if the key is not valid, and with [`Error::Store`] if
/// the store fails.
#[expect(clippy::missing_errors_doc, reason = "told here, once for all of them")]
impl<S: AsyncStore> DurableTracker<S> {
    /// Whether a key may be tried. Does not look at its lease: [`start`](Self::start) does.
    pub async fn check(&self, key: &str) -> Result<Readiness, Error<S::Error>> {
        let (record, now) = self.load(key).await?;
        match record {
            Some(record) if record.is_from_the_future(now) => self.update(key, step::check()).await,
            record => Ok(step::readiness(record.as_ref(), now)),
        }
    }

    /// A key's record, if there is one.
    pub async fn get(&self, key: &str) -> Result<Option<Record>, Error<S::Error>> {
        Ok(self.load(key).await?.0)
    }

    /// Counts a failure, and says how long to wait. The cause is any text; one longer than
    /// [`MAX_CAUSE`](crate::store::MAX_CAUSE) is cut.
    pub async fn record_failure(
        &self,
        key: &str,
        cause: &str,
    ) -> Result<Decision, Error<S::Error>> {
        self.update(key, step::failure(self.desk.failed(cause)))
            .await
    }

    /// Counts a failure by another policy, and with a server's hint. Without a policy the last
    /// interval is repeated, at least a second.
    pub async fn record_failure_with(
        &self,
        key: &str,
        backoff: Option<&Backoff>,
        retry_after: Option<Duration>,
        cause: &str,
    ) -> Result<Decision, Error<S::Error>> {
        let failed = self.desk.failed_with(backoff, retry_after, cause);
        self.update(key, step::failure(failed)).await
    }

    /// Counts a failure of each of several keys, given as pairs of a key and a cause: in one commit
    /// where the store can. For many keys, this is much cheaper than a call for each.
    pub async fn record_failures(
        &self,
        failures: &[(&str, &str)],
    ) -> Result<Vec<Decision>, Error<S::Error>> {
        let keys = failures.iter().map(|&(key, _)| checked(key));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let change = desk::failures(self.desk.each_failed(failures));
        self.desk
            .store
            .update_all(&keys, change)
            .await
            .map_err(Error::Store)
    }

    /// Ends the streak: the next failure starts at the policy's `initial` again. Returns what the
    /// streak came to, if there was one.
    pub async fn record_success(&self, key: &str) -> Result<Option<Recovery>, Error<S::Error>> {
        self.update(key, step::success()).await
    }

    /// Counts a success or a failure, and says how long to wait after a failure.
    pub async fn record<T, E: fmt::Display>(
        &self,
        key: &str,
        result: &Result<T, E>,
    ) -> Result<Option<Decision>, Error<S::Error>> {
        match result {
            Ok(_) => self.record_success(key).await.map(|_| None),
            Err(error) => self.record_failure(key, &error.to_string()).await.map(Some),
        }
    }

    /// Begins an attempt, unless the key waits or has given up. Of all attempts that begin between
    /// two recorded failures of the key, only the first to fail counts, whichever process it is in.
    /// An attempt that is dropped leaves the key as it was.
    ///
    /// An attempt is not a lease: others may begin one too.
    ///
    /// # Errors
    ///
    /// [`StartError::Refused`] if the key waits or has given up.
    pub async fn attempt(&self, key: &str) -> Result<Attempt<'_, S>, StartError<S::Error>> {
        let (record, now) = self.load(key).await?;
        step::ready(record.as_ref(), now).map_err(StartError::Refused)?;
        Ok(Attempt {
            tracker: self,
            key: key.to_owned(),
            window: Window::of(record.as_ref()),
        })
    }

    /// Begins an attempt even if the key waits or has given up: because somebody asked for it, or
    /// because something has changed.
    ///
    /// If the key is ready, this is the same as [`attempt`](Self::attempt). If it is not, a success
    /// ends the streak as usual; but a failure changes nothing, and returns what is left of the
    /// wait; unless the streak has ended meanwhile and no other has begun: then the failure is the
    /// first of a new one.
    pub async fn attempt_now(&self, key: &str) -> Result<Attempt<'_, S>, Error<S::Error>> {
        let (record, now) = self.load(key).await?;
        Ok(Attempt {
            tracker: self,
            key: key.to_owned(),
            window: Window::at(record.as_ref(), now),
        })
    }

    /// Forgets a key's streak, so that the key may be tried now, even after it gave up. Returns
    /// whether there was anything to forget. A live lease stays.
    pub async fn forget(&self, key: &str) -> Result<bool, Error<S::Error>> {
        self.update(key, step::forget()).await
    }

    /// The first `limit` keys that can be taken, in the order in which they are due.
    pub async fn due(&self, limit: usize) -> Result<Vec<Listed>, Error<S::Error>> {
        self.list(&Page::first(Which::Due, limit)).await
    }

    /// The first `limit` keys that wait or that somebody works on, in the order in which they are
    /// due.
    pub async fn waiting(&self, limit: usize) -> Result<Vec<Listed>, Error<S::Error>> {
        self.list(&Page::first(Which::Waiting, limit)).await
    }

    /// The first `limit` keys that gave up, in the order of their keys: those that somebody has to
    /// look at.
    pub async fn gave_up(&self, limit: usize) -> Result<Vec<Listed>, Error<S::Error>> {
        self.list(&Page::first(Which::GaveUp, limit)).await
    }

    /// A page of keys. The next page is `page.after(last)`, where `last` is the last key of this
    /// one.
    pub async fn list(&self, page: &Page) -> Result<Vec<Listed>, Error<S::Error>> {
        self.desk.store.list(page).await.map_err(Error::Store)
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Error<S::Error>> {
        self.desk
            .store
            .load(checked(key)?)
            .await
            .map_err(Error::Store)
    }

    pub(super) async fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Error<S::Error>> {
        let key = checked(key)?;
        self.desk
            .store
            .update(key, change)
            .await
            .map_err(Error::Store)
    }
}
