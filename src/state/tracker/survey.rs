//! What concerns all keys: shard by shard, and a stretch of a shard at a time, so that no thread
//! waits long for a lock.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use super::kept::Kept;
use super::place::SHARDS;
use super::shard::Entry;
use super::{BackoffTracker, Streak};
use crate::clock::Clock;

/// How many buckets are looked at under one lock.
const STRETCH: usize = 512;

/// How often a shard is looked at again from its beginning, because its keys moved meanwhile,
/// before it is looked at as a whole.
const PATIENCE: u32 = 3;

/// All keys. Each of these looks at all of them in turn, a few hundred under one lock, or a 256th
/// of them where keys come and go all the time. Keys that come or change meanwhile are seen as they
/// were or as they are, and none is seen twice.
impl<K: Hash + Eq, C: Clock, S: BuildHasher> BackoffTracker<K, C, S> {
    /// Forgets all keys for which `keep` returns false, as if they had never failed.
    ///
    /// `keep` is asked without any lock held: it may call the tracker. A key that fails meanwhile
    /// is kept, whatever the answer was.
    ///
    /// ```
    /// # use relent::{Backoff, BackoffTracker};
    /// # let tracker: BackoffTracker<String> = BackoffTracker::new(Backoff::DEFAULT);
    /// # tracker.record_failure("eu-1");
    /// # tracker.record_failure("us-1");
    /// tracker.retain(|host, _| host.starts_with("eu-"));
    /// # assert_eq!(tracker.len(), 1);
    /// ```
    pub fn retain(&self, mut keep: impl FnMut(&K, &Streak) -> bool)
    where
        K: Clone,
    {
        for shard in 0..SHARDS {
            let copy = |copies: &mut Vec<_>, entry: &Entry<K>, now| {
                if !entry.kept.is_stale(now, self.retention) {
                    copies.push((entry.clone(), now));
                }
            };
            for (Entry { key, kept }, now) in self.survey(shard, copy) {
                if keep(&key, &kept.streak(now)) {
                    continue;
                }
                let place = self.place(&key);
                let mut open = self.open(shard);
                let found = open.table.find::<K>(place, key.borrow());
                if found.is_some_and(|found| found.progress() == kept.progress()) {
                    open.remove::<K>(place, key.borrow());
                }
            }
        }
    }

    /// Drops the keys whose [retention](super::BackoffTrackerBuilder::retention) is over, and gives
    /// back most of their memory. Returns how many there were.
    ///
    /// Memory is bounded without it: each first failure of a key looks at a few others, and drops
    /// those whose retention is over.
    pub fn purge(&self) -> usize {
        let mut purged = 0;
        for shard in 0..SHARDS {
            let mut from = 0;
            loop {
                let mut gone = Vec::with_capacity(STRETCH);
                let (mut open, now) = self.enter(shard);
                let stale = |kept: &Kept| kept.is_stale(now, self.retention);
                open.remove_within(from..from + STRETCH, &mut gone, stale);
                from += STRETCH;
                let ended = from >= open.table.buckets();
                if ended {
                    open.refit();
                }
                drop(open);
                purged += gone.len();
                if ended {
                    break;
                }
            }
        }
        purged
    }

    /// What `look` makes of all keys of a shard. Each key that is there throughout is seen once.
    pub(super) fn survey<T: Default>(
        &self,
        shard: usize,
        mut look: impl FnMut(&mut T, &Entry<K>, u64),
    ) -> T {
        let mut patience = PATIENCE;
        let mut found = T::default();
        let mut from = 0;
        let mut moves = None;
        loop {
            // Dropped after the lock is released.
            let mut outdated = T::default();
            let (open, now) = self.enter(shard);
            let table = &open.table;
            if moves.is_some_and(|moves| moves != table.moves()) {
                std::mem::swap(&mut found, &mut outdated);
                from = 0;
                patience = patience.saturating_sub(1);
            }
            moves = Some(table.moves());
            let to = match patience {
                0 => table.buckets(),
                _ => from + STRETCH,
            };
            for entry in table.within(from..to) {
                look(&mut found, entry, now);
            }
            from = to;
            if from >= table.buckets() {
                return found;
            }
        }
    }
}
