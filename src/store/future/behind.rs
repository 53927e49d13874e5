//! A tracker in memory that is flushed to a store.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::AsyncStore;
use super::turns::Turns;
use crate::clock::{Clock, MonotonicClock};
use crate::state::BackoffTracker;
use crate::store::behind::{self, Behind, Flushed};
use crate::store::error::Fault;
use crate::store::parts::Parts;
use crate::store::record::Record;

/// A [`BackoffTracker`] that survives restarts, for callers that cannot wait for a store.
///
/// The same as [`blocking::WriteBehind`](crate::store::blocking::WriteBehind), async.
pub struct WriteBehind<S, C = MonotonicClock> {
    store: S,
    tracker: BackoffTracker<String, C>,
    behind: Mutex<Behind>,
    flushes: Turns,
}

impl<S: AsyncStore, C: Clock> WriteBehind<S, C> {
    /// Puts a tracker in front of a store, and has it go on from what the store knows.
    ///
    /// A key that cannot be read, because its row is damaged, say, is passed over if the store [can
    /// tell](AsyncStore::fault) that: it begins anew in memory, and each [flush](Self::flush) that
    /// would write it is an error.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn open(
        store: S,
        tracker: BackoffTracker<String, C>,
    ) -> Result<WriteBehind<S, C>, S::Error> {
        let mut behind = Behind::default();
        let mut tracker = tracker.never_forgetting();
        for mut page in behind::first_pages() {
            loop {
                let listed = match store.list(&page).await {
                    // There is nothing else in this list.
                    Err(error) if store.fault(&error) == Fault::Key => break,
                    listed => listed?,
                };
                let Some(last) = listed.last() else { break };
                page = page.after(last);
                // For the store's time: any key that can be read will do.
                let (_, now) = store.load(&last.key).await?;
                behind.restore(&mut tracker, listed, now);
            }
        }
        Ok(WriteBehind {
            store,
            tracker,
            behind: Mutex::new(behind),
            flushes: Turns::default(),
        })
    }

    /// The tracker in memory.
    #[must_use]
    pub fn tracker(&self) -> &BackoffTracker<String, C> {
        &self.tracker
    }

    /// Writes what changed since the last flush. Returns how many keys did.
    ///
    /// The time it takes grows with the number of keys in the tracker, since it looks at all of
    /// them; those who use the tracker do not wait for it, but other flushes do. If it is dropped
    /// midway, the next flush makes up for it, once the store has let go of it.
    ///
    /// # Errors
    ///
    /// The store's. The next flush writes what this one did not. A key that cannot be reached,
    /// because its row is damaged, say, keeps no other from being written.
    pub async fn flush(&self) -> Result<usize, S::Error> {
        self.write().await.all()
    }

    pub(super) async fn write(&self) -> Flushed<S::Error> {
        let turn = Arc::new(self.flushes.next().await);
        let snapshot = self.tracker.snapshot();
        let changes = self.behind.lock().changes(&snapshot);
        let mut parts = Parts::of(changes.len());
        let mut flushed = Flushed::nothing();
        while let Some(part) = parts.next() {
            let changes = changes.get(part.clone()).unwrap_or_default();
            let keys: Vec<_> = changes.iter().map(|changed| changed.key.as_str()).collect();
            let mut transitions = behind::transitions(changes, snapshot.taken_at);
            // A store may go on with a call that is dropped: it is our turn until it lets go.
            let turn = Arc::clone(&turn);
            let transitions = move |n: usize, record: Option<&Record>, now| {
                let _lasts = &turn;
                transitions(n, record, now)
            };
            self.behind.lock().asked(changes);
            match self.store.update_all(&keys, transitions).await {
                Ok(_) => {
                    parts.made();
                    flushed.wrote(changes.len());
                    self.behind.lock().written(changes);
                }
                Err(error) => {
                    let fault = self.store.fault(&error);
                    self.behind.lock().missed(changes, fault);
                    flushed.missed(error, fault, parts.failed(part, fault));
                }
            }
        }
        flushed
    }
}

impl<S, C> fmt::Debug for WriteBehind<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind").finish_non_exhaustive()
    }
}
