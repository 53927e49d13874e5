//! A part of the keys under one lock, and all that changes together with it.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::ops::Range;

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};

use super::kept::Kept;
use super::place::Place;
use super::presence::{Presence, Usage};
use super::room::Room;
use super::timeline::Timeline;

/// A part of the keys. Apart from its neighbours in the cache: other threads lock them.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard<K>(Mutex<Table<K>>);

/// What the lock of a shard guards.
#[derive(Debug)]
pub(super) struct Table<K> {
    entries: HashTable<Entry<K>>,
    pub(super) timeline: Timeline,
    usage: Usage,
    /// The number of the latest streak.
    streaks: u32,
    /// How often entries may have moved to other buckets.
    moves: u32,
    /// The bucket at which the next insertion goes on to look for keys to purge.
    swept: usize,
}

/// A tracked key.
#[derive(Clone, Debug)]
pub(super) struct Entry<K> {
    pub(super) key: K,
    pub(super) kept: Kept,
}

/// How many buckets an insertion looks at for keys to purge. At this rate it has been all of them
/// before the keys become half as many again.
const SWEEP: usize = 4;

/// Among how many keys the one to evict is chosen.
const CANDIDATES: usize = 16;

impl<K> Shard<K> {
    pub(super) fn new() -> Shard<K> {
        Shard(Mutex::new(Table {
            entries: HashTable::new(),
            timeline: Timeline::new(),
            usage: Usage::new(),
            streaks: 0,
            moves: 0,
            swept: 0,
        }))
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, Table<K>> {
        self.0.lock()
    }
}

impl<K> Table<K> {
    #[inline]
    pub(super) fn find<Q>(&self, place: Place, key: &Q) -> Option<&Kept>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let entry = self
            .entries
            .find(place.hash, |entry| entry.key.borrow() == key)?;
        Some(&entry.kept)
    }

    #[inline]
    pub(super) fn find_mut<Q>(&mut self, place: Place, key: &Q) -> Option<&mut Kept>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let entry = self
            .entries
            .find_mut(place.hash, |entry| entry.key.borrow() == key)?;
        Some(&mut entry.kept)
    }

    /// A number that no recent streak of this shard had.
    pub(super) fn next_streak(&mut self) -> u32 {
        self.streaks = self.streaks.wrapping_add(1);
        self.streaks
    }

    pub(super) fn buckets(&self) -> usize {
        self.entries.num_buckets()
    }

    /// Changes whenever entries may have moved to other buckets.
    pub(super) fn moves(&self) -> u32 {
        self.moves
    }

    pub(super) fn within(&self, buckets: Range<usize>) -> impl Iterator<Item = &Entry<K>> {
        buckets.filter_map(|bucket| self.entries.get_bucket(bucket))
    }
}

/// A shard while its lock is held. Keys come and go only here, so that table, presence and room
/// agree.
pub(super) struct Open<'a, K, S> {
    pub(super) table: MutexGuard<'a, Table<K>>,
    pub(super) shard: usize,
    pub(super) presence: &'a Presence,
    pub(super) room: &'a Room,
    pub(super) hasher: &'a S,
}

impl<K: Hash, S: BuildHasher> Open<'_, K, S> {
    /// Puts in a key that is not there yet, for which room was taken.
    pub(super) fn insert(&mut self, place: Place, entry: Entry<K>) {
        let Table {
            entries,
            usage,
            moves,
            ..
        } = &mut *self.table;
        if entries.len() == entries.capacity() {
            *moves = moves.wrapping_add(1);
        }
        entries.insert_unique(place.hash, entry, |entry| self.hasher.hash_one(&entry.key));
        self.presence.add(place, usage);
        self.refit();
    }

    /// Takes a key out, to be dropped once the lock is released.
    pub(super) fn remove<Q>(&mut self, place: Place, key: &Q) -> Option<Entry<K>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let found = self
            .table
            .entries
            .find_entry(place.hash, |entry| entry.key.borrow() == key);
        let (entry, _) = found.ok()?.remove();
        self.presence.remove(place);
        self.room.give_back(1);
        self.refit();
        Some(entry)
    }

    /// Takes out, of the keys within some buckets, those that are to go.
    pub(super) fn remove_within(
        &mut self,
        buckets: Range<usize>,
        gone: &mut Vec<Entry<K>>,
        mut goes: impl FnMut(&Kept) -> bool,
    ) {
        let before = gone.len();
        for bucket in buckets {
            match self.table.entries.get_bucket_entry(bucket) {
                Ok(found) if goes(&found.get().kept) => {
                    let (entry, _) = found.remove();
                    self.presence
                        .remove(Place::new(self.hasher.hash_one(&entry.key)));
                    gone.push(entry);
                }
                _ => {}
            }
        }
        if gone.len() > before {
            self.room.give_back(gone.len() - before);
            self.refit();
        }
    }

    /// Does a little of the purge: each call goes on where the last one ended.
    pub(super) fn sweep(&mut self, gone: &mut Vec<Entry<K>>, goes: impl FnMut(&Kept) -> bool) {
        let from = match self.table.swept {
            swept if swept < self.table.buckets() => swept,
            _ => 0,
        };
        self.table.swept = from + SWEEP;
        self.remove_within(from..from + SWEEP, gone, goes);
    }

    /// Takes out the key of least worth among some that `place` picks, and leaves its room taken.
    /// `None` if there is no key.
    pub(super) fn evict(&mut self, place: Place, now: u64) -> Option<Entry<K>> {
        let buckets = self.table.buckets();
        let from = place.hash as usize % buckets.max(1);
        let occupied = (from..buckets).chain(0..from).filter_map(|bucket| {
            let entry = self.table.entries.get_bucket(bucket)?;
            Some((entry.kept.worth(now), bucket))
        });
        let (_, bucket) = occupied.take(CANDIDATES).min()?;
        let (entry, _) = self.table.entries.get_bucket_entry(bucket).ok()?.remove();
        self.presence
            .remove(Place::new(self.hasher.hash_one(&entry.key)));
        Some(entry)
    }

    /// Lets the presence and the table follow the number of keys, up and down.
    fn refit(&mut self) {
        let Table {
            entries,
            usage,
            moves,
            ..
        } = &mut *self.table;
        let hash = |entry: &Entry<K>| self.hasher.hash_one(&entry.key);
        if entries.num_buckets() > 64 && entries.len() < entries.num_buckets() / 16 {
            *moves = moves.wrapping_add(1);
            entries.shrink_to(2 * entries.len(), hash);
        }
        if let Some(level) = usage.wants(entries.len()) {
            let places = entries.iter().map(|entry| Place::new(hash(entry)));
            self.presence.move_to(level, self.shard, usage, places);
        }
    }
}
