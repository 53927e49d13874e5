//! A key that a worker has taken.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Store, Transactional};
use crate::policy::Backoff;
use crate::state::{Decision, Recovery};
use crate::store::change::Change;
use crate::store::desk::{Desk, Held};
use crate::store::error::WorkError;
use crate::store::lease::LeaseLost;
use crate::store::record::Record;
use crate::store::session::Expiry;
use crate::store::step;

/// A key that this worker has taken: to be finished, failed or cancelled.
///
/// If it is dropped without any of these, its lease is not extended any more, runs out, and then
/// counts as a failure: as if the worker had died.
///
/// The store checks every end against the lease's token: to end the work twice, or too late, is an
/// error, and writes nothing. After an error of the store itself, the work can still be ended, in
/// the same way or another.
#[derive(Debug)]
#[must_use = "work that is dropped counts as a failure once its lease has run out"]
pub struct Work<S> {
    desk: Desk<S>,
    held: Held,
}

impl<S> Work<S> {
    pub(super) fn new(
        desk: &Desk<S>,
        key: impl Into<Arc<str>>,
        record: Record,
        asked: Duration,
    ) -> Work<S> {
        Work {
            desk: desk.clone(),
            held: Held::new(&desk.session, key, record, asked),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.held.key()
    }

    /// The record as it was when the key was taken: what the streak had come to, and the lease.
    #[must_use]
    pub fn record(&self) -> &Record {
        self.held.record()
    }

    /// The lease's fencing token, for other systems that the work writes to.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.held.token()
    }

    /// Whether the lease is not good any more, as far as this worker can know. If so, stop.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.held.expired()
    }

    /// Waits until the lease is lost: because it ran out, because somebody else has the key, or
    /// because the session has expired. Race it against the work, with a heartbeat running, which
    /// has to notice the loss. Once the work has ended, it is never ready. Dropping it changes
    /// nothing.
    #[must_use = "a future does nothing unless awaited"]
    pub fn expiry(&self) -> Expiry {
        self.held.expiry()
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    #[cfg(feature = "tokio")]
    pub(in crate::store) fn of(desk: Desk<S>, held: Held) -> Work<S> {
        Work { desk, held }
    }
}

impl<S: Store> Work<S> {
    /// Ends the work as a success, and deletes the key's record. Returns what the streak came to,
    /// if there was one.
    ///
    /// # Errors
    ///
    /// [`WorkError::Lost`] if the lease is not good any more.
    pub fn finish(&self) -> Result<Option<Recovery>, WorkError<S::Error>> {
        self.ended(step::finish(self.token()))
    }

    /// Ends the work as a failure, and says how long to wait.
    ///
    /// # Errors
    ///
    /// [`WorkError::Lost`] if the lease is not good any more.
    pub fn fail(&self, cause: &str) -> Result<Decision, WorkError<S::Error>> {
        self.ended(self.held.failing(self.desk.failed(cause)))
    }

    /// Ends the work as a failure by another policy, and with a server's hint. Without a policy the
    /// last interval is repeated, at least a second.
    ///
    /// # Errors
    ///
    /// [`WorkError::Lost`] if the lease is not good any more.
    pub fn fail_with(
        &self,
        backoff: Option<&Backoff>,
        retry_after: Option<Duration>,
        cause: &str,
    ) -> Result<Decision, WorkError<S::Error>> {
        let failed = self.desk.failed_with(backoff, retry_after, cause);
        self.ended(self.held.failing(failed))
    }

    /// Ends the work as if it had not begun: the key's streak stays as it was.
    ///
    /// # Errors
    ///
    /// [`WorkError::Lost`] if the lease is not good any more.
    pub fn cancel(&self) -> Result<(), WorkError<S::Error>> {
        self.ended(step::cancel(self.token()))
    }

    fn ended<T: Send + 'static>(
        &self,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<Result<T, LeaseLost>> + Send + 'static,
    ) -> Result<T, WorkError<S::Error>> {
        let _ending = self.held.ending();
        let ended = self.desk.store.update(self.key(), change);
        self.held.ended(ended)
    }
}

/// Within a transaction of the caller's.
///
/// What these write is committed with the rest of the transaction, or not at all. Until then the
/// work has not ended: if the commit fails, it can still be ended.
impl<S: Transactional> Work<S> {
    /// As [`finish`](Self::finish), within the transaction that is open on `connection`.
    ///
    /// # Errors
    ///
    /// As for [`finish`](Self::finish). Roll back then: somebody else may be doing the same work.
    pub fn finish_in(
        &self,
        connection: S::Connection<'_>,
    ) -> Result<Option<Recovery>, WorkError<S::Error>> {
        self.ended_in(connection, step::finish(self.token()))
    }

    /// As [`fail`](Self::fail), within the transaction that is open on `connection`.
    ///
    /// # Errors
    ///
    /// As for [`fail`](Self::fail). Roll back then.
    pub fn fail_in(
        &self,
        connection: S::Connection<'_>,
        cause: &str,
    ) -> Result<Decision, WorkError<S::Error>> {
        let failed = self.desk.failed(cause);
        self.ended_in(connection, self.held.failing(failed))
    }

    /// As [`fail_with`](Self::fail_with), within the transaction that is open on `connection`.
    ///
    /// # Errors
    ///
    /// As for [`fail`](Self::fail). Roll back then.
    pub fn fail_with_in(
        &self,
        connection: S::Connection<'_>,
        backoff: Option<&Backoff>,
        retry_after: Option<Duration>,
        cause: &str,
    ) -> Result<Decision, WorkError<S::Error>> {
        let failed = self.desk.failed_with(backoff, retry_after, cause);
        self.ended_in(connection, self.held.failing(failed))
    }

    /// As [`cancel`](Self::cancel), within the transaction that is open on `connection`.
    ///
    /// # Errors
    ///
    /// As for [`cancel`](Self::cancel). Roll back then.
    pub fn cancel_in(&self, connection: S::Connection<'_>) -> Result<(), WorkError<S::Error>> {
        self.ended_in(connection, step::cancel(self.token()))
    }

    fn ended_in<T: Send + 'static>(
        &self,
        connection: S::Connection<'_>,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<Result<T, LeaseLost>> + Send + 'static,
    ) -> Result<T, WorkError<S::Error>> {
        let store = &self.desk.store;
        let ended = store.update_in(connection, self.key(), change);
        self.held.ended_in(ended)
    }
}
