//! The verbs that take keys, and keep them.

use super::DurableTracker;
use crate::store::desk;
use crate::store::error::StartError;
use crate::store::future::{AsyncStore, Work};
use crate::store::listing::Listed;
use crate::store::step;

/// Leases.
impl<S: AsyncStore> DurableTracker<S> {
    /// Takes a key, to work on it alone.
    ///
    /// If the last lease ran out, that counts as one failure first: after a worker has died, the
    /// key backs off.
    ///
    /// # Errors
    ///
    /// [`StartError::Refused`] says why the key cannot be taken now; [`StartError::TooLate`] says
    /// that the store took longer than the lease lives; [`StartError::SessionExpired`], that this
    /// session starts no more work.
    pub async fn start(&self, key: &str) -> Result<Work<S>, StartError<S::Error>> {
        let asked = self.desk.session.now();
        let start = self.desk.start()?;
        let record = self
            .update(key, step::start(start))
            .await?
            .map_err(StartError::Refused)?;
        let work = Work::new(&self.desk, key, record, asked);
        self.in_time(std::slice::from_ref(&work)).await?;
        Ok(work)
    }

    /// Takes a key even if it waits or gave up: because an operator asked for it, or because
    /// something has changed.
    ///
    /// If the key is ready, this is the same as [`start`](Self::start). If it is not, a success
    /// ends the streak as usual; but failing the work changes nothing, and returns what is left of
    /// the wait, which should not grow because somebody asks often; unless the streak has ended
    /// meanwhile and no other has begun: then the failure is the first of a new one. If the worker
    /// dies, that counts as a failure like any other.
    ///
    /// # Errors
    ///
    /// [`StartError::Refused`] if somebody has the key; otherwise as for [`start`](Self::start).
    pub async fn start_now(&self, key: &str) -> Result<Work<S>, StartError<S::Error>> {
        let asked = self.desk.session.now();
        let start = self.desk.start()?;
        let record = self
            .update(key, step::start_now(start))
            .await?
            .map_err(StartError::Refused)?;
        let work = Work::new(&self.desk, key, record, asked);
        self.in_time(std::slice::from_ref(&work)).await?;
        Ok(work)
    }

    /// Takes the first of several keys that can be taken, or none.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start), except refusals.
    pub async fn start_any<K: AsRef<str>>(
        &self,
        candidates: impl IntoIterator<Item = K>,
    ) -> Result<Option<Work<S>>, StartError<S::Error>> {
        for key in candidates {
            match self.start(key.as_ref()).await {
                Ok(work) => return Ok(Some(work)),
                Err(StartError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes up to `limit` keys that are due, in the order in which they are due. Only keys with a
    /// record are ever due: those that failed before, or whose worker died.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start), except refusals.
    pub async fn claim_due(&self, limit: usize) -> Result<Vec<Work<S>>, StartError<S::Error>> {
        let asked = self.desk.session.now();
        let start = self.desk.start()?;
        let claimed = self
            .desk
            .store
            .claim(&start, limit)
            .await
            .map_err(StartError::Store)?;
        let works = claimed.into_iter();
        let works: Vec<_> = works
            .map(|Listed { key, record }| Work::new(&self.desk, key, record, asked))
            .collect();
        self.in_time(&works).await?;
        Ok(works)
    }

    /// Extends all leases of the session once, as [`heartbeat_with`](Self::heartbeat_with) does
    /// again and again. It leaves out those that have run out, and all of them once the session has
    /// expired.
    ///
    /// # Errors
    ///
    /// The store's, about a lease that was not extended. All that could be extended were; the
    /// others can still be, until they run out.
    pub async fn beat(&self) -> Result<(), S::Error> {
        let session = &self.desk.session;
        let Some(beat) = session.beat() else {
            return Ok(());
        };
        let told = |n, answer| session.told(&beat, n, answer);
        let store = &self.desk.store;
        store
            .extend(&beat.leases(), session.time_to_live(), told)
            .await
    }

    /// Gives back what was just taken, if taking it took so long that it cannot be relied on.
    async fn in_time(&self, works: &[Work<S>]) -> Result<(), StartError<S::Error>> {
        // True of all or of none: they were asked for at the same time.
        let Some(late) = works.last().and_then(|work| work.held().too_late()) else {
            return Ok(());
        };
        let keys: Vec<_> = works.iter().map(Work::key).collect();
        let given_back = desk::given_back(works.iter().map(Work::token));
        let store = &self.desk.store;
        store
            .update_all(&keys, given_back)
            .await
            .map_err(StartError::Store)?;
        Err(late)
    }
}
