//! A tracker in memory that is flushed to a store.

use std::fmt;

use parking_lot::Mutex;

use super::Store;
use crate::clock::{Clock, MonotonicClock};
use crate::state::BackoffTracker;
use crate::store::behind::{self, Behind, Flushed};
use crate::store::error::Fault;
use crate::store::parts::Parts;

/// A [`BackoffTracker`] that survives restarts, for callers that cannot wait for a disk.
///
/// The tracker answers from memory, as always: nothing is added to what it does at a failure. Each
/// [`flush`](Self::flush) compares the tracker with what was last written, and writes the changes
/// to the store in one commit. **A crash loses what came after the last flush**, so
/// [flush](Self::flush_every) often enough that you can do without that: every second, say.
///
/// While this process runs, no other may use the store's keys, or the namespace of them that it
/// uses. Keys that no store takes stay in memory only. A history notes none of this.
///
/// # What it forgets
///
/// The store knows what the tracker does, so a key's record is deleted when its streak ends: by a
/// success, or because the program [forgets](BackoffTracker::forget) it, or does not
/// [retain](BackoffTracker::retain) it. The passing of time does not end it: in front of a store a
/// tracker remembers a key until then, whatever its
/// [retention](crate::BackoffTrackerBuilder::retention), whether the program runs or not.
///
/// At its [bound](crate::BackoffTrackerBuilder::max_keys), by default a million keys, a tracker
/// forgets one key for each new one, and [counts](BackoffTracker::evicted) those that it forgot.
/// They are deleted from the store too, so the store is bounded as well. The bound is never less
/// than the number of keys that the store knew at the beginning: opening it loses nothing.
///
/// ```
/// use relent::{Backoff, BackoffTracker, Readiness};
/// use relent::store::{MemoryStore, blocking::WriteBehind};
/// use std::sync::Arc;
///
/// let store = Arc::new(MemoryStore::new());
/// let behind = WriteBehind::open(Arc::clone(&store), BackoffTracker::new(Backoff::DEFAULT))?;
/// behind.tracker().record_failure("mx.example.org");
/// assert_eq!(behind.flush()?, 1);
///
/// // After a restart:
/// let behind = WriteBehind::open(store, BackoffTracker::new(Backoff::DEFAULT))?;
/// assert!(matches!(behind.tracker().check("mx.example.org"), Readiness::Wait(_)));
/// # Ok::<(), std::convert::Infallible>(())
/// ```
pub struct WriteBehind<S, C = MonotonicClock> {
    store: S,
    tracker: BackoffTracker<String, C>,
    behind: Mutex<Behind>,
}

impl<S: Store, C: Clock> WriteBehind<S, C> {
    /// Puts a tracker in front of a store, and has it go on from what the store knows.
    ///
    /// A key that cannot be read, because its row is damaged, say, is passed over if the store [can
    /// tell](Store::fault) that: it begins anew in memory, and each [flush](Self::flush) that would
    /// write it is an error.
    ///
    /// # Errors
    ///
    /// The store's.
    pub fn open(
        store: S,
        tracker: BackoffTracker<String, C>,
    ) -> Result<WriteBehind<S, C>, S::Error> {
        let mut behind = Behind::default();
        let mut tracker = tracker.never_forgetting();
        for mut page in behind::first_pages() {
            loop {
                let listed = match store.list(&page) {
                    // There is nothing else in this list.
                    Err(error) if store.fault(&error) == Fault::Key => break,
                    listed => listed?,
                };
                let Some(last) = listed.last() else { break };
                page = page.after(last);
                // For the store's time: any key that can be read will do.
                let (_, now) = store.load(&last.key)?;
                behind.restore(&mut tracker, listed, now);
            }
        }
        Ok(WriteBehind {
            store,
            tracker,
            behind: Mutex::new(behind),
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
    /// them; those who use the tracker do not wait for it, but other flushes do.
    ///
    /// # Errors
    ///
    /// The store's. The next flush writes what this one did not. A key that cannot be reached,
    /// because its row is damaged, say, keeps no other from being written.
    pub fn flush(&self) -> Result<usize, S::Error> {
        self.write().all()
    }

    pub(super) fn write(&self) -> Flushed<S::Error> {
        let mut behind = self.behind.lock();
        let snapshot = self.tracker.snapshot();
        let changes = behind.changes(&snapshot);
        let mut parts = Parts::of(changes.len());
        let mut flushed = Flushed::nothing();
        while let Some(part) = parts.next() {
            let changes = changes.get(part.clone()).unwrap_or_default();
            let keys: Vec<_> = changes.iter().map(|changed| changed.key.as_str()).collect();
            let transitions = behind::transitions(changes, snapshot.taken_at);
            behind.asked(changes);
            match self.store.update_all(&keys, transitions) {
                Ok(_) => {
                    parts.made();
                    flushed.wrote(changes.len());
                    behind.written(changes);
                }
                Err(error) => {
                    let fault = self.store.fault(&error);
                    behind.missed(changes, fault);
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
