//! The verbs that take keys, and keep them.

use super::DurableTracker;
use crate::store::desk;
use crate::store::error::StartError;
use crate::store::future::{AsyncStore, Work};
use crate::store::listing::Listed;
use crate::store::step;

/// Leases.
impl<S: AsyncStore> DurableTracker<S> {
    /// Takes a key to work on it, alone.
    ///
    /// A lease that ran out counts as one failure first, so after a worker died the key backs off.
    ///
    /// # Errors
    ///
    /// [`StartError::Refused`] says why the key cannot be taken now.
    pub async fn start(&self, key: &str) -> Result<Work<S>, StartError<S::Error>> {
        let asked = self.desk.session.now();
        let start = self.desk.start()?;
        let record = self
            .update(key, step::start(start))
            .await?
            .map_err(StartError::Refused)?;
        Ok(Work::new(&self.desk, key, record, asked))
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
    pub async fn start_now(&self, key: &str) -> Result<Work<S>, StartError<S::Error>> {
        let asked = self.desk.session.now();
        let start = self.desk.start()?;
        let record = self
            .update(key, step::start_now(start))
            .await?
            .map_err(StartError::Refused)?;
        Ok(Work::new(&self.desk, key, record, asked))
    }

    /// Takes the first of several keys that can be taken, or none.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start), refusals apart.
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

    /// Takes up to `limit` keys that are due, those due first coming first. Only keys with a record
    /// are: those that failed before, or that somebody died on.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start), refusals apart.
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
        Ok(works
            .map(|Listed { key, record }| Work::new(&self.desk, &key, record, asked))
            .collect())
    }

    /// Extends all leases of the session once, as [`heartbeat_with`](Self::heartbeat_with) does
    /// time and again.
    ///
    /// # Errors
    ///
    /// The store's. The leases may still be extended until they run out.
    pub async fn beat(&self) -> Result<(), S::Error> {
        let Some(beat) = self.desk.session.beat() else {
            return Ok(());
        };
        let change = desk::extensions(&beat, self.desk.session.time_to_live());
        let keys: Vec<_> = beat.leases.iter().map(|(_, key)| key.as_str()).collect();
        let answers = self.desk.store.update_all(&keys, change).await?;
        self.desk.session.beaten(beat, answers);
        Ok(())
    }
}
