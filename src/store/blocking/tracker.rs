//! The tracker's verbs over a blocking store.

mod attempt;
mod leases;
mod within;

pub use attempt::Attempt;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Store;
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

/// Backoff and leases per key, over a [`Store`]: they survive crashes, and processes share them.
///
/// The same as [`store::DurableTracker`](crate::store::DurableTracker), blocking.
///
/// Clones share the store and the session.
///
/// ```
/// use relent::Backoff;
/// use relent::store::{MemoryStore, StartError, Refusal, blocking::DurableTracker};
/// use std::time::{Duration, SystemTime};
///
/// const MINUTE: Duration = Duration::from_secs(60);
/// const POLICY: Backoff = Backoff::exponential(MINUTE, Duration::from_secs(3600));
///
/// let tracker = DurableTracker::new(MemoryStore::new(), POLICY);
/// let work = tracker.start("machine-42")?;
/// work.fail("no answer")?;
///
/// let refused = tracker.start("machine-42").map(drop);
/// assert!(matches!(refused, Err(StartError::Refused(Refusal::BackingOff { .. }))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
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
impl<S: Store> DurableTracker<S> {
    /// Whether a key may be tried. Does not look at its lease: [`start`](Self::start) does.
    pub fn check(&self, key: &str) -> Result<Readiness, Error<S::Error>> {
        let (record, now) = self.load(key)?;
        match record {
            Some(record) if record.is_from_the_future(now) => self.update(key, step::check()),
            record => Ok(step::readiness(record.as_ref(), now)),
        }
    }

    /// A key's record, if there is one.
    pub fn get(&self, key: &str) -> Result<Option<Record>, Error<S::Error>> {
        Ok(self.load(key)?.0)
    }

    /// Counts a failure, and says how long to wait. The cause is any text; one longer than
    /// [`MAX_CAUSE`](crate::store::MAX_CAUSE) is cut.
    pub fn record_failure(&self, key: &str, cause: &str) -> Result<Decision, Error<S::Error>> {
        self.update(key, step::failure(self.desk.failed(cause)))
    }

    /// Counts a failure by another policy, and with a server's hint. Without a policy the last
    /// interval is repeated, at least a second.
    pub fn record_failure_with(
        &self,
        key: &str,
        backoff: Option<&Backoff>,
        retry_after: Option<Duration>,
        cause: &str,
    ) -> Result<Decision, Error<S::Error>> {
        let failed = self.desk.failed_with(backoff, retry_after, cause);
        self.update(key, step::failure(failed))
    }

    /// Counts a failure of each of several keys, given as pairs of a key and a cause: in one commit
    /// where the store can. For many keys, this is much cheaper than a call for each.
    pub fn record_failures(
        &self,
        failures: &[(&str, &str)],
    ) -> Result<Vec<Decision>, Error<S::Error>> {
        let keys = failures.iter().map(|&(key, _)| checked(key));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let change = desk::failures(self.desk.each_failed(failures));
        self.desk
            .store
            .update_all(&keys, change)
            .map_err(Error::Store)
    }

    /// Ends the streak: the next failure starts at the policy's `initial` again. Returns what the
    /// streak came to, if there was one.
    pub fn record_success(&self, key: &str) -> Result<Option<Recovery>, Error<S::Error>> {
        self.update(key, step::success())
    }

    /// Counts a success or a failure, and says how long to wait after a failure.
    pub fn record<T, E: fmt::Display>(
        &self,
        key: &str,
        result: &Result<T, E>,
    ) -> Result<Option<Decision>, Error<S::Error>> {
        match result {
            Ok(_) => self.record_success(key).map(|_| None),
            Err(error) => self.record_failure(key, &error.to_string()).map(Some),
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
    pub fn attempt(&self, key: &str) -> Result<Attempt<'_, S>, StartError<S::Error>> {
        let (record, now) = self.load(key)?;
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
    pub fn attempt_now(&self, key: &str) -> Result<Attempt<'_, S>, Error<S::Error>> {
        let (record, now) = self.load(key)?;
        Ok(Attempt {
            tracker: self,
            key: key.to_owned(),
            window: Window::at(record.as_ref(), now),
        })
    }

    /// Forgets a key's streak, so that the key may be tried now, even after it gave up. Returns
    /// whether there was anything to forget. A live lease stays.
    pub fn forget(&self, key: &str) -> Result<bool, Error<S::Error>> {
        self.update(key, step::forget())
    }

    /// The first `limit` keys that can be taken, in the order in which they are due.
    pub fn due(&self, limit: usize) -> Result<Vec<Listed>, Error<S::Error>> {
        self.list(&Page::first(Which::Due, limit))
    }

    /// The first `limit` keys that wait or that somebody works on, in the order in which they are
    /// due.
    pub fn waiting(&self, limit: usize) -> Result<Vec<Listed>, Error<S::Error>> {
        self.list(&Page::first(Which::Waiting, limit))
    }

    /// The first `limit` keys that gave up, in the order of their keys: those that somebody has to
    /// look at.
    pub fn gave_up(&self, limit: usize) -> Result<Vec<Listed>, Error<S::Error>> {
        self.list(&Page::first(Which::GaveUp, limit))
    }

    /// A page of keys. The next page is `page.after(last)`, where `last` is the last key of this
    /// one.
    pub fn list(&self, page: &Page) -> Result<Vec<Listed>, Error<S::Error>> {
        self.desk.store.list(page).map_err(Error::Store)
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Error<S::Error>> {
        self.desk.store.load(checked(key)?).map_err(Error::Store)
    }

    pub(super) fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Error<S::Error>> {
        let key = checked(key)?;
        self.desk.store.update(key, change).map_err(Error::Store)
    }
}
