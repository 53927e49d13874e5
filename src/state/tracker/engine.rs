//! What the verbs have in common: how a shard is entered, and what is done under its lock.
//!
//! No lock is held while the clock is read, a key is dropped or a closure runs; and no two locks at
//! once.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use super::kept::{Cause, Kept, Progress};
use super::place::{Place, SHARDS};
use super::shard::{CANDIDATES, Entry, Open, Shard};
use super::{BackoffTracker, Recovery};
use crate::clock::Clock;
use crate::policy::{Plan, from_nanos, nanos};
use crate::state::Decision;

impl<K: Hash + Eq, C: Clock, S: BuildHasher> BackoffTracker<K, C, S> {
    #[inline(always)]
    pub(super) fn place<Q: Hash + ?Sized>(&self, key: &Q) -> Place {
        Place::new(self.hasher.hash_one(key))
    }

    /// Counts a failure, if it `counts` for a streak that has come so far.
    #[inline]
    pub(super) fn fail<Q>(
        &self,
        place: Place,
        key: &Q,
        plan: &Plan,
        retry_after: Option<Duration>,
        counts: impl Fn(Progress) -> bool,
    ) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let cause = Cause {
            plan,
            retry_after: retry_after.map_or(0, nanos),
            seed: self.seed ^ place.hash,
        };
        let time = self.time();
        let mut table = self.shard(place).lock();
        if let Some(now) = table.seen.at(time) {
            if let Some(kept) = table.find_mut(place, key) {
                if !kept.is_stale(now, self.retention) {
                    if counts(kept.progress()) {
                        return kept.fail(&cause, now);
                    }
                    return kept.decision(now);
                }
            }
        }
        drop(table);
        self.fail_first(place, key, &cause, time, counts)
    }

    /// Counts a failure of a key that was not there, at a time read before.
    #[inline(never)]
    fn fail_first<Q>(
        &self,
        place: Place,
        key: &Q,
        cause: &Cause<'_>,
        mut time: u64,
        counts: impl Fn(Progress) -> bool,
    ) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let shard = place.shard();
        // Both dropped after the lock is released.
        let mut newcomer = Some(key.to_owned());
        let mut gone = Vec::new();
        // Each round finds room, or makes it, or else another thread did: somebody gets on.
        loop {
            let (mut open, now) = self.enter_at(shard, time);
            let mut first = Kept::begin(open.table.next_streak(), now);
            if let Some(kept) = open.table.find_mut(place, key) {
                if kept.is_stale(now, self.retention) {
                    *kept = first;
                } else if !counts(kept.progress()) {
                    return kept.decision(now);
                }
                return kept.fail(cause, now);
            }
            let decision = first.fail(cause, now);
            if self.admit(&mut open, place, &mut newcomer, first, now, &mut gone) {
                return decision;
            }
            drop(open);
            self.make_room(place);
            time = self.time();
        }
    }

    /// Puts in a key that is not there; false if there is no room.
    pub(super) fn admit(
        &self,
        open: &mut Open<'_, K, S>,
        place: Place,
        newcomer: &mut Option<K>,
        kept: Kept,
        now: u64,
        gone: &mut Vec<Entry<K>>,
    ) -> bool {
        open.sweep(gone, |kept| kept.is_stale(now, self.retention));
        open.prepare();
        let Some(key) = newcomer.take() else {
            return true;
        };
        if !self.room.take() {
            *newcomer = Some(key);
            return false;
        }
        open.insert(place, Entry { key, kept });
        true
    }

    /// Takes out a key to make room for one that comes to `place`.
    #[cold]
    pub(super) fn make_room(&self, place: Place) {
        let mut candidates = Vec::with_capacity(CANDIDATES);
        // Mostly the first shard has enough of them. Where there are few keys, more have to do.
        for next in 0..SHARDS {
            let (open, now) = self.enter((place.shard() + next) % SHARDS);
            open.candidates(place, now, &mut candidates);
            if candidates.len() == CANDIDATES {
                break;
            }
        }
        candidates.sort_unstable_by_key(|candidate| candidate.worth);
        for candidate in candidates {
            let (mut open, now) = self.enter(candidate.shard);
            if let Some(kept) = open.remove_candidate(&candidate) {
                if !kept.is_stale(now, self.retention) {
                    self.room.count_eviction();
                }
                return;
            }
        }
    }

    #[inline(never)]
    pub(super) fn look<Q>(&self, place: Place, key: &Q) -> Option<(Kept, u64)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let (kept, mut seen) = {
            let table = self.shard(place).lock();
            (*table.find(place, key)?, table.seen)
        };
        // Read only now, so that whoever asks for a key that is not there reads no clock.
        let (kept, now) = if let Some(now) = seen.at(self.time()) {
            (kept, now)
        } else {
            let (open, now) = self.enter(place.shard());
            (*open.table.find(place, key)?, now)
        };
        (!kept.is_stale(now, self.retention)).then_some((kept, now))
    }

    #[inline(always)]
    pub(super) fn succeed<Q>(&self, place: Place, key: &Q) -> Option<Recovery>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        if !self.presence.may_hold(place) {
            return None;
        }
        self.recover(place, key)
    }

    #[inline(never)]
    fn recover<Q>(&self, place: Place, key: &Q) -> Option<Recovery>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let (kept, seen) = {
            let mut open = self.open(place.shard());
            (open.remove(place, key)?, open.table.seen)
        };
        let now = self.time().max(seen.get());
        (!kept.is_stale(now, self.retention)).then(|| Recovery {
            failures: kept.failures,
            outage: from_nanos(now.saturating_sub(kept.first_failure)),
        })
    }

    #[inline]
    fn shard(&self, place: Place) -> &Shard<K> {
        &self.shards[place.shard()]
    }

    #[inline]
    pub(super) fn open(&self, shard: usize) -> Open<'_, K, S> {
        Open {
            table: self.shards[shard].lock(),
            shard,
            presence: &self.presence,
            room: &self.room,
            hasher: &self.hasher,
            gone: None,
        }
    }

    /// Opens a shard and tells its time. The clock is read before the lock is taken.
    #[inline]
    pub(super) fn enter(&self, shard: usize) -> (Open<'_, K, S>, u64) {
        self.enter_at(shard, self.time())
    }

    #[inline]
    fn enter_at(&self, shard: usize, time: u64) -> (Open<'_, K, S>, u64) {
        let mut open = self.open(shard);
        if let Some(now) = open.table.seen.at(time) {
            return (open, now);
        }
        let seen = open.table.seen.get();
        drop(open);
        self.enter_after(shard, seen)
    }

    #[cold]
    fn enter_after(&self, shard: usize, seen: u64) -> (Open<'_, K, S>, u64) {
        let time = self.ahead.read_after(&self.clock, seen);
        let mut open = self.open(shard);
        let now = open.table.seen.at_least(time);
        (open, now)
    }

    #[inline]
    fn time(&self) -> u64 {
        self.ahead.read(&self.clock)
    }

    /// The time, no earlier than what any shard has seen.
    pub(super) fn latest(&self) -> u64 {
        let seen = self.shards.iter().map(|shard| shard.lock().seen.get());
        let seen = seen.fold(0, u64::max);
        self.ahead.read_after(&self.clock, seen)
    }
}
