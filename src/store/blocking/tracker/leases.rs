//! The verbs that take keys, and keep them.

use super::DurableTracker;
use crate::store::blocking::{Store, Work};
use crate::store::desk;
use crate::store::error::StartError;
use crate::store::listing::Listed;
use crate::store::step;

/// Leases.
impl<S: Store> DurableTracker<S> {
    /// Takes a key to work on it, alone.
    ///
    /// A lease that ran out counts as one failure first, so after a worker died the key backs off.
    ///
    /// # Errors
    ///
    /// [`StartError::Refused`] says why the key cannot be taken now; [`StartError::TooLate`] that
    /// the store took longer than the lease lives.
    pub fn start(&self, key: &str) -> Result<Work<S>, StartError<S::Error>> {
        let asked = self.desk.session.now();
        let start = self.desk.start()?;
        let record = self
            .update(key, step::start(start))?
            .map_err(StartError::Refused)?;
        let work = Work::new(&self.desk, key, record, asked);
        self.in_time(std::slice::from_ref(&work))?;
        Ok(work)
    }

    /// Takes a key also if it waits or gave up: because an operator asked for it, or because
    /// something has changed.
    ///
    /// The same as [`start`](Self::start) where the key is ready. Where it is not, the work can be
    /// ended as ever: a success ends the streak. But to fail it changes nothing, and tells what is
    /// left of the wait: being asked often should not make it longer. If the worker dies, that
    /// counts as a failure like any other.
    ///
    /// # Errors
    ///
    /// [`StartError::Refused`] if somebody has the key.
    pub fn start_now(&self, key: &str) -> Result<Work<S>, StartError<S::Error>> {
        let asked = self.desk.session.now();
        let start = self.desk.start()?;
        let record = self
            .update(key, step::start_now(start))?
            .map_err(StartError::Refused)?;
        let work = Work::new(&self.desk, key, record, asked);
        self.in_time(std::slice::from_ref(&work))?;
        Ok(work)
    }

    /// Takes the first of several keys that can be taken, or none.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start), refusals apart.
    pub fn start_any<K: AsRef<str>>(
        &self,
        candidates: impl IntoIterator<Item = K>,
    ) -> Result<Option<Work<S>>, StartError<S::Error>> {
        for key in candidates {
            match self.start(key.as_ref()) {
                Ok(work) => return Ok(Some(work)),
                Err(StartError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes up to `limit` keys that are due, those due first coming first. Only keys with a record
    /// are: those that failed before, or that somebody died on.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start), refusals apart.
    pub fn claim_due(&self, limit: usize) -> Result<Vec<Work<S>>, StartError<S::Error>> {
        let asked = self.desk.session.now();
        let start = self.desk.start()?;
        let claimed = self
            .desk
            .store
            .claim(&start, limit)
            .map_err(StartError::Store)?;
        let works = claimed.into_iter();
        let works: Vec<_> = works
            .map(|Listed { key, record }| Work::new(&self.desk, key, record, asked))
            .collect();
        self.in_time(&works)?;
        Ok(works)
    }

    /// Extends all leases of the session once, as [`heartbeat`](Self::heartbeat) does time and
    /// again; those that have run out, or all once the session has expired, it leaves.
    ///
    /// # Errors
    ///
    /// The store's, of a lease that was not extended. Those that could be were, and the others may
    /// still be until they run out.
    pub fn beat(&self) -> Result<(), S::Error> {
        let session = &self.desk.session;
        let Some(beat) = session.beat() else {
            return Ok(());
        };
        let told = |n, answer| session.told(&beat, n, answer);
        let store = &self.desk.store;
        store.extend(&beat.leases(), session.time_to_live(), told)
    }

    /// Gives back what was just taken at once, if that took so long that it cannot be relied on.
    fn in_time(&self, works: &[Work<S>]) -> Result<(), StartError<S::Error>> {
        // Of all, or of none: they were asked for at the same time.
        let Some(late) = works.last().and_then(|work| work.held().too_late()) else {
            return Ok(());
        };
        let keys: Vec<_> = works.iter().map(Work::key).collect();
        let given_back = desk::given_back(works.iter().map(Work::token));
        let store = &self.desk.store;
        store
            .update_all(&keys, given_back)
            .map_err(StartError::Store)?;
        Err(late)
    }
}
