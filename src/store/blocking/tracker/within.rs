//! The verbs within a transaction of the caller's.

use super::DurableTracker;
use crate::state::{Decision, Recovery};
use crate::store::blocking::{Transactional, Work};
use crate::store::desk::checked;
use crate::store::error::{Error, StartError};
use crate::store::lease::Granted;
use crate::store::step;

/// Within a transaction of the caller's: what these write is committed with the rest of it, or not
/// at all.
///
/// # Errors
///
/// Each of these fails as its namesake. Roll back then.
impl<S: Transactional> DurableTracker<S> {
    /// As [`record_failure`](Self::record_failure), within the transaction that is open on
    /// `connection`.
    #[allow(clippy::missing_errors_doc)] // above
    pub fn record_failure_in(
        &self,
        connection: S::Connection<'_>,
        key: &str,
        cause: &str,
    ) -> Result<Decision, Error<S::Error>> {
        let change = step::failure(self.desk.failed(cause));
        let store = &self.desk.store;
        store
            .update_in(connection, checked(key)?, change)
            .map_err(Error::Store)
    }

    /// As [`record_success`](Self::record_success), within the transaction that is open on
    /// `connection`.
    #[allow(clippy::missing_errors_doc)] // above
    pub fn record_success_in(
        &self,
        connection: S::Connection<'_>,
        key: &str,
    ) -> Result<Option<Recovery>, Error<S::Error>> {
        let store = &self.desk.store;
        store
            .update_in(connection, checked(key)?, step::success())
            .map_err(Error::Store)
    }

    /// As [`start`](Self::start), within the transaction that is open on `connection`: to choose
    /// the key and take it in one, so that nobody finishes it in between.
    ///
    /// The lease holds once that is committed. Tell of it by [`committed`](Self::committed) then.
    #[allow(clippy::missing_errors_doc)] // above
    pub fn start_in(
        &self,
        connection: S::Connection<'_>,
        key: &str,
    ) -> Result<Granted, StartError<S::Error>> {
        let asked = self.desk.session.now();
        let start = self.desk.start()?;
        let (store, key) = (&self.desk.store, checked(key)?);
        let record = store
            .update_in(connection, key, step::start(start))
            .map_err(StartError::Store)?
            .map_err(StartError::Refused)?;
        Ok(Granted::new(key, record, asked))
    }

    /// The work to do, once the transaction that [`start_in`](Self::start_in) was part of is
    /// committed. A lease that is not known to be must not be used: let go of it.
    pub fn committed(&self, granted: Granted) -> Work<S> {
        let Granted { key, record, asked } = granted;
        Work::new(&self.desk, &key, record, asked)
    }
}
