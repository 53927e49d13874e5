//! The verbs within a transaction of the caller's.

use std::time::{Duration, SystemTime};

use super::DurableTracker;
use crate::policy::Backoff;
use crate::state::{Decision, Recovery};
use crate::store::blocking::{Transactional, Work};
use crate::store::change::Change;
use crate::store::desk::checked;
use crate::store::error::{Error, StartError};
use crate::store::lease::Granted;
use crate::store::record::Record;
use crate::store::step;

/// Within a transaction of the caller's: what these write is committed with the rest of it, or not
/// at all.
///
/// # Errors
///
/// Each of these fails as the method that it is named after. Roll back then.
#[expect(clippy::missing_errors_doc, reason = "told here, once for all of them")]
impl<S: Transactional> DurableTracker<S> {
    /// As [`record_failure`](Self::record_failure), within the transaction that is open on
    /// `connection`.
    pub fn record_failure_in(
        &self,
        connection: S::Connection<'_>,
        key: &str,
        cause: &str,
    ) -> Result<Decision, Error<S::Error>> {
        let failed = self.desk.failed(cause);
        self.update_in(connection, key, step::failure(failed))
    }

    /// As [`record_failure_with`](Self::record_failure_with), within the transaction that is open
    /// on `connection`.
    pub fn record_failure_with_in(
        &self,
        connection: S::Connection<'_>,
        key: &str,
        backoff: Option<&Backoff>,
        retry_after: Option<Duration>,
        cause: &str,
    ) -> Result<Decision, Error<S::Error>> {
        let failed = self.desk.failed_with(backoff, retry_after, cause);
        self.update_in(connection, key, step::failure(failed))
    }

    /// As [`record_success`](Self::record_success), within the transaction that is open on
    /// `connection`.
    pub fn record_success_in(
        &self,
        connection: S::Connection<'_>,
        key: &str,
    ) -> Result<Option<Recovery>, Error<S::Error>> {
        self.update_in(connection, key, step::success())
    }

    /// As [`forget`](Self::forget), within the transaction that is open on `connection`.
    pub fn forget_in(
        &self,
        connection: S::Connection<'_>,
        key: &str,
    ) -> Result<bool, Error<S::Error>> {
        self.update_in(connection, key, step::forget())
    }

    /// As [`start`](Self::start), within the transaction that is open on `connection`: to choose
    /// the key and take it in one transaction, so that nobody finishes it in between.
    ///
    /// The lease holds once the transaction is committed. Then call [`committed`](Self::committed).
    pub fn start_in(
        &self,
        connection: S::Connection<'_>,
        key: &str,
    ) -> Result<Granted, StartError<S::Error>> {
        let asked = self.desk.session.now();
        let start = self.desk.start()?;
        let record = self
            .update_in(connection, key, step::start(start))?
            .map_err(StartError::Refused)?;
        Ok(Granted::new(key, record, asked))
    }

    /// The work to do, once the transaction that [`start_in`](Self::start_in) was part of is
    /// committed. If it is not known whether it is, drop the [`Granted`] instead: the lease, if
    /// there is one, runs out. If this is called so late that the lease may have run out, the work
    /// is [expired](Work::expired) from the beginning.
    pub fn committed(&self, granted: Granted) -> Work<S> {
        let Granted { key, record, asked } = granted;
        Work::new(&self.desk, key, record, asked)
    }

    fn update_in<R: Send + 'static>(
        &self,
        connection: S::Connection<'_>,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Error<S::Error>> {
        let (store, key) = (&self.desk.store, checked(key)?);
        let answer = store.update_in(connection, key, change);
        answer.map_err(Error::Store)
    }
}
